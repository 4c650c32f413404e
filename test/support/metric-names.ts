import { CoordinatorMetrics } from '../../coordinator/metrics/coordinator-metrics.js';
import { Traffic } from '../../coordinator/traffic.js';
import { FakeClock } from './fake-clock.js';

/** What stands behind the name of a histogram. */
const HISTOGRAM_PARTS = ['_bucket', '_sum', '_count'];

/** The names of all series that a coordinator can have, as its own registry declares them. */
export async function metricNames(): Promise<string[]> {
  const figures = {
    ...{ workers: [], slots: { busy: 0, idle: 0 }, demand: 0, joins: 0, leaves: [] },
  };
  const metrics = new CoordinatorMetrics({
    cluster: { figures: () => figures, traffic: new Traffic() },
    clock: new FakeClock(),
    versions: { version: '', node: '', tensorflow: '' },
    runsFolder: '/',
  });
  const { text } = await metrics.render();
  return [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) =>
    type === 'histogram' ? HISTOGRAM_PARTS.map((part) => `${name}${part}`) : [name],
  );
}
