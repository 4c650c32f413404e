import { make } from './dom.js';
import { timeOfDay } from './format.js';
import type { LogLine, Tone } from './state.js';

/** Lines kept on the page; the files have all. */
const MAX_LINES = 300;

const TONES: Readonly<Record<string, Tone>> = {
  warning: 'warn',
  waiting: 'warn',
  'worker-left': 'bad',
  'worker-refused': 'bad',
  'trial-failed': 'bad',
  'checkpoint-damaged': 'bad',
  'worker-joined': 'good',
};

/** The end of `events.jsonl`. Stays at its end unless the reader has scrolled up. */
export class LogView {
  constructor(
    /** What scrolls. */
    private readonly box: HTMLElement,
    private readonly list: HTMLElement,
  ) {}

  clear(): void {
    this.list.replaceChildren();
  }

  add(lines: readonly LogLine[]): void {
    const { box, list } = this;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    list.append(...lines.slice(-MAX_LINES).map(item));
    while (list.childElementCount > MAX_LINES) list.firstElementChild?.remove();
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}

function item(line: LogLine): HTMLLIElement {
  const { time, type } = line;
  const tone = TONES[type] ?? (type === 'ended' ? (line['status'] === 'done' ? 'good' : 'bad') : 'calm');
  const stamp = make('time', { datetime: time }, timeOfDay(time));
  return make('li', { 'data-tone': tone }, stamp, ` ${type}${detailsOf(line)}`);
}

/** The other fields in the order in which they were written. */
function detailsOf(line: LogLine): string {
  return Object.entries(line)
    .filter(([name, value]) => name !== 'time' && name !== 'type' && value !== null)
    .map(([name, value]) => `  ${name}: ${textOf(value)}`)
    .join('');
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  // Durations come with all their digits.
  if (typeof value === 'number' && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return JSON.stringify(value);
}
