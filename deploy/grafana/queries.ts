import type { States } from './spec.js';

/** Label matchers of the dashboards' variables. */
export const RUN = 'run=~"$run"';
export const TRIAL = 'run=~"$run",trial=~"$trial"';
export const WORKER = 'worker=~"$worker"';

/** A counter's increase a second, summed by labels. */
export const rate = (by: string, selector: string): string =>
  `sum by (${by}) (rate(${selector}[$__rate_interval]))`;

/** A rate that is 0, not nothing, while its counter has never counted. */
export const rateOrZero = (by: string, selector: string): string => `${rate(by, selector)} or vector(0)`;

/** The mean of a histogram's observations. */
export const mean = (by: string, histogram: string, matchers: string): string =>
  `${rate(by, `${histogram}_sum{${matchers}}`)} / ${rate(by, `${histogram}_count{${matchers}}`)}`;

/** A quantile of a histogram. */
export const quantile = (q: number, by: string, histogram: string, matchers: string): string =>
  `histogram_quantile(${q}, ${rate(by === '' ? 'le' : `le, ${by}`, `${histogram}_bucket{${matchers}}`)})`;

/** One number for a state that is kept as one series of 0 and 1 for each state. */
export function stateNumber(by: string, metric: string, matchers: string): string {
  const parts = STATUSES.map((status, number) => `${metric}{${matchers},status="${status}"} * ${number}`);
  return `max by (${by}) (${parts.join(' or ')})`;
}

const STATUSES = ['queued', 'waiting', 'running', 'done', 'stopped', 'failed'] as const;
const COLORS = ['text', 'orange', 'blue', 'green', 'purple', 'red'] as const;

/** What the numbers of `stateNumber` stand for. */
export const STATES: States = Object.fromEntries(
  STATUSES.map((text, number) => [number, { text, color: COLORS[number] ?? 'text' }]),
);
