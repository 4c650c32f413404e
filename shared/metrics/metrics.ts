import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

/** Every metric's name begins with it. */
export const METRIC_PREFIX = 'atelier_';

/** prom-client's own that break Prometheus' naming rules: gauges that are called totals. */
const MISNAMED = ['handles', 'requests', 'resources'].map(
  (what) => `${METRIC_PREFIX}nodejs_active_${what}_total`,
);

/**
 * prom-client's own of the event loop come from a timer that wakes this thread a hundred times a second, on a core that
 * computes. `EventLoopLag` measures the same with a tenth of that.
 */
const WAKEFUL = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(
  (what) => `${METRIC_PREFIX}nodejs_eventloop_lag_${what}_seconds`,
);
/** The longest that timers of Node take. */
const NEVER_MS = 2 ** 31 - 1;

/** What a scrape is answered with. */
export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

export async function exposition(registry: Registry): Promise<Exposition> {
  return { contentType: registry.contentType, text: await registry.metrics() };
}

/** A registry with what Node knows of this process: CPU, memory, garbage collection, event loop. */
export function processRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({
    register: registry,
    prefix: METRIC_PREFIX,
    eventLoopMonitoringPrecision: NEVER_MS,
  });
  for (const name of [...MISNAMED, ...WAKEFUL]) registry.removeSingleMetric(name);
  return registry;
}

/** Sets the series with these values of the definition's labels, in their order. */
export type SetSeries = (value: number, ...labels: readonly string[]) => void;

/** A metric that is read when somebody asks, from figures that are kept for other reasons. */
export interface Definition<Source> {
  /** Without the prefix; counters end in `_total`. */
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  readonly labels?: readonly string[];
  readonly read: (source: Source, set: SetSeries) => void;
}

/**
 * Metrics over sources, such as the runs of a coordinator. Each reading begins from nothing, so that what a source no
 * longer has is gone, and nobody can add series that stay.
 */
export class MetricTable<Source> {
  private readonly rows: readonly {
    readonly definition: Definition<Source>;
    readonly metric: Gauge | Counter;
  }[];

  constructor(registry: Registry, definitions: readonly Definition<Source>[]) {
    this.rows = definitions.map((definition) => {
      const { name, type, help, labels = [] } = definition;
      const options = { name: METRIC_PREFIX + name, help, labelNames: labels, registers: [registry] };
      return { definition, metric: type === 'gauge' ? new Gauge(options) : new Counter(options) };
    });
  }

  read(sources: readonly Source[]): void {
    for (const { definition, metric } of this.rows) {
      metric.reset();
      // A reset metric without labels is shown as 0: what nobody knows is not shown.
      if (sources.length === 0) metric.remove({});
      const names = definition.labels ?? [];
      const set: SetSeries = (value, ...values) => {
        const labels = Object.fromEntries(names.map((name, i) => [name, values[i] ?? '']));
        if (metric instanceof Gauge) metric.set(labels, value);
        else metric.inc(labels, value);
      };
      for (const source of sources) definition.read(source, set);
    }
  }
}
