import { timeOfDay } from './format.js';
import { TIMELINE_MS, type History, type Stretch } from './history.js';
import type { Theme } from './theme.js';

/** All in CSS pixels. */
const ROW = 30;
const BAR = 22;
const AXIS = 22;
const GAP = 8;
const LETTER = 8;
const MOST_LABEL = 160;
const LEAST_TICK_DISTANCE = 110;
const TICK_MS = 10_000;
const FONT = '12px system-ui, "DejaVu Sans", sans-serif';

interface Scale {
  readonly left: number;
  readonly right: number;
  x(time: number): number;
}

/**
 * How many slots of each worker were at work, over the last two minutes. On a bare canvas: thousands of small bars a
 * second are too much for a charting library that keeps an object for each.
 */
export class Timeline {
  private readonly canvas = document.createElement('canvas');
  private readonly context: CanvasRenderingContext2D | null;

  constructor(private readonly host: HTMLElement) {
    host.append(this.canvas);
    this.context = this.canvas.getContext('2d');
  }

  draw(history: History, theme: Theme, now: number): void {
    const names = [...history.stretches.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    this.host.setAttribute('aria-label', describe(names, history));
    const { context } = this;
    if (context === null) return;
    const width = this.host.clientWidth;
    this.resize(context, width, names.length * ROW + AXIS);
    const scale = scaleOf(names, width, now);
    names.forEach((name, row) => {
      const middle = row * ROW + ROW / 2;
      drawLabel(context, name, middle, scale.left - GAP, theme);
      for (const stretch of history.stretches.get(name) ?? []) {
        drawStretch(context, stretch, middle - BAR / 2, scale, theme);
      }
    });
    drawAxis(context, names.length * ROW, scale, theme, now);
  }

  /** Also clears it. */
  private resize(context: CanvasRenderingContext2D, width: number, height: number): void {
    const { canvas, host } = this;
    const ratio = devicePixelRatio;
    if (host.style.height !== `${height}px`) host.style.height = `${height}px`;
    const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== columns || canvas.height !== rows) {
      canvas.width = columns;
      canvas.height = rows;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = FONT;
  }
}

function scaleOf(names: readonly string[], width: number, now: number): Scale {
  const longest = Math.max(1, ...names.map(({ length }) => length));
  const left = Math.min(longest * LETTER, MOST_LABEL, width * 0.3) + GAP;
  const right = width - GAP;
  return { left, right, x: (time) => right - ((now - time) / TIMELINE_MS) * (right - left) };
}

function drawLabel(
  context: CanvasRenderingContext2D,
  name: string,
  middle: number,
  room: number,
  theme: Theme,
): void {
  context.fillStyle = theme.ink;
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  let text = name;
  while (text.length > 1 && context.measureText(text).width > room) text = `${text.slice(0, -2)}…`;
  context.fillText(text, room, middle);
}

/** A bed for the slots of the worker, and those at work standing in it. */
function drawStretch(
  context: CanvasRenderingContext2D,
  { from, to, busySlots, slots, state }: Stretch,
  top: number,
  scale: Scale,
  theme: Theme,
): void {
  const x = Math.max(scale.left, scale.x(from));
  const width = Math.max(1, scale.x(to) - x);
  context.fillStyle = state === 'lost' ? theme.bad : state === 'ready' ? theme.idle : theme.warn;
  context.fillRect(x, top, width, BAR);
  if (state === 'lost') {
    // Not by colour alone.
    context.fillStyle = theme.page;
    for (let y = top + 4; y < top + BAR - 1; y += 6) context.fillRect(x, y, width, 2);
    return;
  }
  const busy = slots === 0 ? 0 : Math.min(1, busySlots / slots);
  context.fillStyle = theme.busy;
  context.fillRect(x, top + BAR * (1 - busy), width, BAR * busy);
}

function drawAxis(
  context: CanvasRenderingContext2D,
  top: number,
  scale: Scale,
  theme: Theme,
  now: number,
): void {
  context.fillStyle = theme.quiet;
  context.textAlign = 'center';
  context.textBaseline = 'top';
  const most = Math.max(1, Math.floor((scale.right - scale.left) / LEAST_TICK_DISTANCE));
  const every = Math.ceil(TIMELINE_MS / most / TICK_MS) * TICK_MS;
  const first = Math.ceil((now - TIMELINE_MS) / every) * every;
  for (let time = first; time <= now; time += every) {
    const x = scale.x(time);
    context.fillRect(x, top, 1, 4);
    // A label that would stand out over the edge is left out.
    if (x > scale.left + 20 && x < scale.right - 20) context.fillText(timeOfDay(time), x, top + 7);
  }
}

function describe(names: readonly string[], history: History): string {
  const parts = names.map((name) => {
    const stretches = history.stretches.get(name) ?? [];
    const state = stretches.at(-1)?.state ?? 'unknown';
    const time = stretches.reduce((sum, { from, to, slots }) => sum + (to - from) * slots, 0);
    const busy = stretches.reduce((sum, { from, to, busySlots }) => sum + (to - from) * busySlots, 0);
    const share = Math.round((100 * busy) / Math.max(1, time));
    return `${name} is ${state}, its slots were at work for ${share} % of the time`;
  });
  return `Slots at work in the last two minutes. ${parts.join('; ')}.`;
}
