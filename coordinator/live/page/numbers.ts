import { make, setText } from './dom.js';
import { count, duration, NOTHING, percent } from './format.js';
import { isOver, type RunState } from './state.js';

/** The figures at the top. */
const FIGURES: Readonly<Record<string, (run: RunState, now: number) => string>> = {
  Progress: ({ progress }) => percent(progress),
  'Time left': ({ status, etaSeconds }) => (isOver(status) ? NOTHING : duration(etaSeconds)),
  'Images per second': ({ imagesPerSecond }) => count(imagesPerSecond),
  'Workers ready': ({ workers }) => {
    const ready = workers.filter(({ state }) => state === 'ready').length;
    return ready === workers.length ? String(ready) : `${ready} of ${workers.length}`;
  },
  'Slots at work': ({ workers }) => {
    const present = workers.filter(({ state }) => state !== 'lost');
    const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
    const busy = sum(present.map(({ busySlots }) => busySlots));
    return `${busy} of ${sum(present.map(({ slots }) => slots))}`;
  },
  Started: ({ startedAt }) =>
    startedAt === null ? NOTHING : new Date(startedAt).toLocaleTimeString('en-GB', { timeStyle: 'short' }),
};

export class Numbers {
  private readonly values: Readonly<Record<string, HTMLElement>>;

  constructor(host: HTMLElement) {
    this.values = Object.fromEntries(Object.keys(FIGURES).map((name) => [name, make('dd')]));
    host.replaceChildren(
      ...Object.entries(this.values).map(([name, value]) => make('div', {}, make('dt', {}, name), value)),
    );
  }

  update(run: RunState, now: number): void {
    for (const [name, value] of Object.entries(this.values)) setText(value, FIGURES[name]?.(run, now) ?? '');
  }
}
