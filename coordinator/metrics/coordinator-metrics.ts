import { statfs } from 'node:fs/promises';
import { Gauge, Histogram, type Registry } from 'prom-client';
import type { Clock } from '../../shared/clock.js';
import { Counts } from '../../shared/counts.js';
import { EventLoopLag } from '../../shared/metrics/event-loop-lag.js';
import {
  exposition,
  METRIC_PREFIX,
  MetricTable,
  processRegistry,
  type Exposition,
} from '../../shared/metrics/metrics.js';
import type { Cluster } from '../cluster.js';
import type { RunFigures } from '../run-figures.js';
import type { RunObserver } from '../run-observer.js';
import type { LoginRefusal } from '../security/admission.js';
import type { StepTimes } from '../step-timer.js';
import { CLUSTER_METRICS, type ShownCluster } from './cluster-metrics.js';
import { labelOf } from './labels.js';
import { RUN_METRICS, type ShownRun } from './run-metrics.js';

/** How long a run is shown after its end: long enough for several scrapes. */
export const RUN_SHOWN_MS = 5 * 60_000;
/** The most runs that are shown; those that ended first go first. */
export const MAX_RUNS_SHOWN = 64;

const MS = 1_000;
/** From a tenth of what a small model's step takes to what a large one's takes. */
const STEP_BUCKETS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const CHECKPOINT_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const PHASES = [
  'compute',
  'wait',
  'reduce',
  'optimizer',
  'broadcast',
  'total',
] as const satisfies (keyof StepTimes)[];

export interface CoordinatorMetricsOptions {
  readonly cluster: Pick<Cluster, 'figures' | 'traffic'>;
  readonly clock: Clock;
  readonly versions: { readonly version: string; readonly node: string; readonly tensorflow: string };
  /** Where runs are written: its free space is shown. */
  readonly runsFolder: string;
}

/** What a run is to those who show it. */
export interface Observable {
  figures(): RunFigures;
  /** Resolves when the run is over. */
  readonly ended: Promise<unknown>;
}

/** `live` until the run has ended; then what is left of it is a few numbers. */
type Shown =
  | { readonly kind: 'live'; readonly run: Observable }
  | { readonly kind: 'ended'; readonly figures: RunFigures; readonly at: number };

/**
 * All metrics of one coordinator. Nearly all are read when somebody asks, from what the coordinator knows anyway; only
 * the times of steps and checkpoints are noted as they happen.
 */
export class CoordinatorMetrics {
  private readonly options: CoordinatorMetricsOptions;
  private readonly registry: Registry = processRegistry();
  private readonly runTable = new MetricTable<ShownRun>(this.registry, RUN_METRICS);
  private readonly clusterTable = new MetricTable<ShownCluster>(this.registry, CLUSTER_METRICS);
  private readonly lag = new EventLoopLag();
  private readonly stepSeconds: Histogram<'run' | 'phase'>;
  private readonly checkpointSeconds: Histogram<'run'>;
  private readonly lagSeconds: Gauge<'process'>;
  private readonly diskFree: Gauge;
  /** By label, in the order in which they began. */
  private readonly runs = new Map<string, Shown>();
  /** Logins that were refused; the server counts them here. */
  readonly logins = new Counts<LoginRefusal>();

  constructor(options: CoordinatorMetricsOptions) {
    this.options = options;
    const registers = [this.registry];
    this.stepSeconds = new Histogram({
      name: `${METRIC_PREFIX}step_seconds`,
      help: 'Time of a step by where it went: compute in slots, wait (queue, network, barrier), reduce, optimizer, broadcast; total is their sum.',
      labelNames: ['run', 'phase'],
      buckets: STEP_BUCKETS_SECONDS,
      registers,
    });
    this.checkpointSeconds = new Histogram({
      name: `${METRIC_PREFIX}checkpoint_seconds`,
      help: 'Time to write a checkpoint, beside the training.',
      labelNames: ['run'],
      buckets: CHECKPOINT_BUCKETS_SECONDS,
      registers,
    });
    this.lagSeconds = new Gauge({
      name: `${METRIC_PREFIX}event_loop_lag_seconds`,
      help: '99th percentile of the delay of the main thread of the process, of the latest seconds.',
      labelNames: ['process'],
      registers,
    });
    this.diskFree = new Gauge({
      name: `${METRIC_PREFIX}disk_free_bytes`,
      help: 'Free space where runs are written.',
      registers,
    });
    const { version, node, tensorflow } = options.versions;
    new Gauge({
      name: `${METRIC_PREFIX}build_info`,
      help: 'Always 1: the versions of the coordinator; tensorflow is that of tfjs, workers have their own.',
      labelNames: ['version', 'node', 'tensorflow'],
      registers,
    }).set({ version, node, tensorflow }, 1);
  }

  /** Shows a run until some minutes after its end, under this name. */
  watch(name: string, run: Observable): void {
    const label = labelOf(name);
    this.forget(label);
    this.runs.set(label, { kind: 'live', run });
    const end = (): void => {
      // The run and its weights are let go.
      this.runs.set(label, { kind: 'ended', figures: run.figures(), at: this.options.clock.now() });
    };
    run.ended.then(end, end);
  }

  /** Notes the times of a run's steps and checkpoints. */
  observer(name: string): Pick<RunObserver, 'stepped' | 'checkpointed'> {
    const run = labelOf(name);
    return {
      stepped: (_progress, _imagesPerSecond, times) => {
        for (const phase of PHASES) this.stepSeconds.observe({ run, phase }, times[phase] / MS);
      },
      checkpointed: (_trial, { milliseconds }) => this.checkpointSeconds.observe({ run }, milliseconds / MS),
    };
  }

  /** What a scrape is answered with. */
  async render(): Promise<Exposition> {
    const { cluster, clock } = this.options;
    const now = clock.now();
    this.dropOldRuns(now);
    const runs = [...this.runs].map(([run, shown]) => ({
      ...{ run, now },
      figures: shown.kind === 'live' ? shown.run.figures() : shown.figures,
    }));
    const workersWanted = Math.max(0, ...runs.map(({ figures }) => figures.workersWanted));
    const { traffic } = cluster;
    this.runTable.read(runs);
    this.clusterTable.read([{ figures: cluster.figures(), traffic, logins: this.logins, workersWanted }]);
    this.lagSeconds.set({ process: 'coordinator' }, this.lag.milliseconds / MS);
    await this.readDisk();
    return exposition(this.registry);
  }

  close(): void {
    this.lag.stop();
  }

  private async readDisk(): Promise<void> {
    try {
      const { bavail, bsize } = await statfs(this.options.runsFolder);
      this.diskFree.set(bavail * bsize);
    } catch {
      // No such folder yet: what is not known is not shown.
      this.diskFree.remove();
    }
  }

  private dropOldRuns(now: number): void {
    for (const [label, shown] of this.runs) {
      if (shown.kind === 'ended' && now - shown.at > RUN_SHOWN_MS) this.forget(label);
    }
    const ended = [...this.runs].filter(([, { kind }]) => kind === 'ended');
    const excess = this.runs.size - MAX_RUNS_SHOWN;
    for (const [label] of ended.slice(0, Math.max(0, excess))) this.forget(label);
  }

  private forget(label: string): void {
    this.runs.delete(label);
    for (const phase of PHASES) this.stepSeconds.remove({ run: label, phase });
    this.checkpointSeconds.remove({ run: label });
  }
}
