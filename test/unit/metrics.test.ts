import { describe, expect, test } from 'vitest';
import type { ClusterFigures, WorkerFigures } from '../../coordinator/cluster-figures.js';
import {
  CoordinatorMetrics,
  MAX_RUNS_SHOWN,
  RUN_SHOWN_MS,
} from '../../coordinator/metrics/coordinator-metrics.js';
import { labelOf, workerLabels } from '../../coordinator/metrics/labels.js';
import { scrapeTargets } from '../../coordinator/metrics/service-discovery.js';
import type { RunFigures, TrialFigures } from '../../coordinator/run-figures.js';
import { StepTimer } from '../../coordinator/step-timer.js';
import { Traffic } from '../../coordinator/traffic.js';
import { MAX_WORKERS } from '../../shared/protocol/limits.js';
import type { WorkerReport } from '../../shared/protocol/messages.js';
import { hasPrometheus, promtool } from '../support/promtool.js';
import { parseExposition, valueOf, type Series } from '../support/exposition.js';
import { FakeClock } from '../support/fake-clock.js';

const TIMES = { compute: 4, wait: 3, reduce: 1, optimizer: 1, broadcast: 1, total: 10 };
const WRITTEN = { file: '0000000001.checkpoint', bytes: 1_000, milliseconds: 20 };

const REPORT: WorkerReport = {
  ...{ tensors: 40, tensorBytes: 5_000, eventLoopLagMs: 2, busySlots: 2, busyRatio: 0.5 },
  ...{ rows: 1_000, rowsPerSecond: 250, residentBytes: 1e8, metrics: { port: 9100, tls: false } },
};

const worker = (number: number, name = `w${number}`): WorkerFigures => ({
  ...{ number, name, state: 'ready', slots: 2, silentMs: 500, owedUnits: 3, bufferedBytes: 7 },
  versions: { atelier: '0.1.0', node: 'v20', tensorflow: '2.21.0' },
  report: REPORT,
  address: '10.0.0.7',
});

const trial = (fold: number | null): TrialFigures => ({
  ...{ fold, status: 'running', epochsDone: 1, epochs: 2, stepsDone: 15, steps: 20, learningRate: 0.001 },
  ...{ train: { loss: 0.5, accuracy: 0.75 }, validation: { loss: 0.6, accuracy: 0.7 } },
  ...{ test: { loss: 0.7, accuracy: 0.65 }, ledgerRows: 80, counted: { steps: 15, rows: 120 } },
  checkpoints: { count: 1, bytes: 1_000, writtenAt: 0 },
});

const RUN: RunFigures = {
  ...{ status: 'running', startedAt: 2_000, progress: 0.75, etaSeconds: 30, imagesPerSecond: 1_234 },
  ...{ workersWanted: 2, leases: { leases: 9, speculated: 3, returned: 2, wins: 1 }, died: 1, late: 4 },
  trials: [trial(0), trial(null)],
};

function setUp(workers: readonly WorkerFigures[] = [worker(0)]): {
  metrics: CoordinatorMetrics;
  clock: FakeClock;
  read: () => Promise<Series[]>;
  text: () => Promise<string>;
} {
  const clock = new FakeClock();
  const traffic = new Traffic();
  traffic.sent('lease', 100);
  traffic.received('partial', 1_000);
  traffic.rejected.add('malformed');
  const figures = (): ClusterFigures => ({
    ...{ workers, slots: { busy: 1, idle: 1 }, demand: 5, joins: 3, leaves: [['lost', 2]] },
  });
  const metrics = new CoordinatorMetrics({
    ...{ cluster: { figures, traffic }, clock, runsFolder: '/' },
    versions: { version: '0.1.0', node: 'v20', tensorflow: 'tfjs 4' },
  });
  const text = async (): Promise<string> => (await metrics.render()).text;
  return { metrics, clock, text, read: async () => parseExposition(await text()) };
}

const forever = new Promise<never>(() => undefined);
const ofRun = (series: readonly Series[], run: string): Series[] =>
  series.filter(({ labels }) => labels['run'] === run);

/** What dashboards and alerts count on. */
const CONTRACT =
  `run_status run_progress_ratio run_eta_seconds run_start_time_seconds trial_status trial_epoch
  trial_epochs trial_step trial_steps trial_loss trial_accuracy trial_learning_rate steps_total rows_total
  images_per_second ledger_rows step_seconds_bucket step_seconds_sum step_seconds_count slot_busy_ratio slots
  slots_demand workers worker_heartbeat_age_seconds worker_joins_total worker_leaves_total worker_rows_per_second
  workers_desired leases_total lease_retries_total speculative_wins_total late_partials_total bytes_total frames_total
  socket_buffered_bytes checkpoints_total checkpoint_age_seconds checkpoint_bytes checkpoint_seconds_count
  frames_rejected_total logins_refused_total worker_tensors worker_tensor_bytes event_loop_lag_seconds
  worker_event_loop_lag_seconds disk_free_bytes build_info process_resident_memory_bytes process_cpu_seconds_total`
    .split(/\s+/)
    .map((name) => `atelier_${name}`);

describe('the metrics of a coordinator', () => {
  test('are all there, with help and by the rules of names', async () => {
    const { metrics, read, text } = setUp();
    metrics.watch('a', { figures: () => RUN, ended: forever });
    metrics.observer('a').stepped({} as never, 0, TIMES);
    metrics.observer('a').checkpointed(0, WRITTEN);
    const names = new Set((await read()).map(({ name }) => name));
    expect(CONTRACT.filter((name) => !names.has(name))).toEqual([]);
    const page = await text();
    const types = [...page.matchAll(/^# TYPE (\S+) (\S+)$/gm)];
    // The event loop's delay is sampled once, by us: prom-client would have its percentiles of no samples.
    expect(types.map(([, name = '']) => name).filter((name) => name.includes('eventloop_lag'))).toEqual([
      'atelier_nodejs_eventloop_lag_seconds',
    ]);
    for (const [, name = '', type] of types) {
      expect(name).toMatch(/^atelier_[a-z0-9_]+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(page).toMatch(new RegExp(`^# HELP ${name} \\S`, 'm'));
    }
  });

  test.runIf(hasPrometheus('promtool'))('pass promtool', async () => {
    const { metrics, text } = setUp([worker(0), { ...worker(1), state: 'lost', report: null }]);
    metrics.watch('a', { figures: () => RUN, ended: forever });
    metrics.observer('a').stepped({} as never, 0, TIMES);
    metrics.observer('a').checkpointed(0, WRITTEN);
    expect(await promtool(['check', 'metrics'], await text())).toBe('');
  });

  test('say what is known', async () => {
    const { metrics, clock, read } = setUp();
    clock.advance(60_000);
    metrics.logins.add('token', 5);
    metrics.watch('a', { figures: () => RUN, ended: forever });
    metrics.observer('a').stepped({} as never, 0, TIMES);
    const series = await read();
    const value = (name: string, labels = {}): number => valueOf(series, `atelier_${name}`, labels);
    expect(value('run_status', { run: 'a', status: 'running' })).toBe(1);
    expect(value('run_status', { run: 'a', status: 'done' })).toBe(0);
    expect(value('trial_loss', { trial: '0', split: 'validation' })).toBe(0.6);
    expect(value('trial_accuracy', { trial: 'final', split: 'test' })).toBe(0.65);
    expect(value('lease_retries_total', { reason: 'lost' })).toBe(2);
    expect(value('lease_retries_total', { reason: 'late' })).toBe(3);
    expect(value('lease_retries_total', { reason: 'died' })).toBe(1);
    expect(value('checkpoint_age_seconds', { trial: '0' })).toBe(60);
    expect(value('step_seconds_sum', { phase: 'compute' })).toBe(0.004);
    expect(value('bytes_total', { direction: 'in', type: 'partial' })).toBe(1_000);
    expect(value('frames_total', { direction: 'out', type: 'lease' })).toBe(1);
    expect(value('frames_rejected_total', { reason: 'malformed' })).toBe(1);
    expect(value('frames_rejected_total', { reason: 'version' })).toBe(0);
    expect(value('logins_refused_total', { reason: 'token' })).toBe(5);
    expect(value('worker_leaves_total', { reason: 'lost' })).toBe(2);
    expect(value('worker_heartbeat_age_seconds', { worker: 'w0' })).toBe(0.5);
    expect(value('workers_desired')).toBe(2);
    expect(value('disk_free_bytes')).toBeGreaterThan(0);
  });

  test('do not count twice what is asked for twice', async () => {
    const { metrics, read } = setUp();
    metrics.watch('a', { figures: () => RUN, ended: forever });
    await read();
    expect(valueOf(await read(), 'atelier_rows_total', { trial: '0' })).toBe(120);
  });

  test('show a loss that is not finite as NaN', async () => {
    const { metrics, text } = setUp();
    const trials = [{ ...trial(0), train: { loss: Number.NaN, accuracy: 0.1 } }];
    metrics.watch('a', { figures: () => ({ ...RUN, trials }), ended: forever });
    expect(await text()).toContain('atelier_trial_loss{run="a",trial="0",split="train"} Nan');
  });

  test('of a run go some minutes after its end, all of them', async () => {
    const { metrics, clock, read } = setUp();
    const observer = metrics.observer('a');
    observer.stepped({} as never, 0, TIMES);
    observer.checkpointed(0, WRITTEN);
    const ended = Promise.resolve();
    metrics.watch('a', { figures: () => ({ ...RUN, status: 'done' }), ended });
    await ended;
    clock.advance(RUN_SHOWN_MS);
    expect(valueOf(await read(), 'atelier_run_status', { run: 'a', status: 'done' })).toBe(1);
    clock.advance(1);
    expect(ofRun(await read(), 'a')).toEqual([]);
  });

  test('of ended runs are bounded in number, the oldest go first', async () => {
    const { metrics, read } = setUp();
    metrics.watch('live', { figures: () => RUN, ended: forever });
    const ended = Promise.resolve();
    for (let i = 0; i < MAX_RUNS_SHOWN + 10; i++) metrics.watch(`run-${i}`, { figures: () => RUN, ended });
    await ended;
    const runs = new Set((await read()).flatMap(({ labels }) => labels['run'] ?? []));
    expect(runs.size).toBe(MAX_RUNS_SHOWN);
    expect(runs.has('live')).toBe(true);
    expect(runs.has('run-0')).toBe(false);
  });
});

describe('labels', () => {
  test('of hostile workers are plain, short, and as many as there are workers', async () => {
    const bad = '"} evil 1\n# TYPE x counter\\';
    const workers = Array.from({ length: MAX_WORKERS }, (_, i) =>
      worker(i, `${bad}${'x'.repeat(100)}${i % 7}`),
    );
    const { read } = setUp(workers);
    const names = (await read()).flatMap(({ name, labels }) =>
      name === 'atelier_worker_tensors' ? [labels['worker'] ?? ''] : [],
    );
    expect(new Set(names).size).toBe(MAX_WORKERS);
    for (const name of names) expect(name).toMatch(/^[A-Za-z0-9._:-]{1,64}#\d+$/);
  });

  test('are never empty', () => {
    expect(labelOf('')).toBe('_');
    expect(labelOf('größe 1')).toBe('gr__e_1');
  });

  test('have the number of a worker where its name is not enough', () => {
    const workers = [worker(1, 'a'), worker(2, 'b'), worker(3, 'a')];
    expect(workerLabels(workers)).toEqual(['a#1', 'b', 'a#3']);
  });
});

describe('service discovery', () => {
  const coordinator = { target: 'coordinator:7077', tls: true };

  test('names the coordinator, and workers by the address from which they came', () => {
    const workers = [
      worker(0),
      { ...worker(1), address: '::ffff:10.0.0.8' },
      { ...worker(2), report: { ...REPORT, metrics: null } },
      { ...worker(3), report: null },
      { ...worker(4), address: 'fd00::1', report: { ...REPORT, metrics: { port: 9101, tls: true } } },
    ];
    expect(scrapeTargets(coordinator, { workers })).toEqual([
      { targets: ['coordinator:7077'], labels: { __scheme__: 'https', component: 'coordinator' } },
      { targets: ['10.0.0.7:9100'], labels: { __scheme__: 'http', component: 'worker', worker: 'w0' } },
      { targets: ['10.0.0.8:9100'], labels: { __scheme__: 'http', component: 'worker', worker: 'w1' } },
      { targets: ['[fd00::1]:9101'], labels: { __scheme__: 'https', component: 'worker', worker: 'w4' } },
    ]);
  });
});

describe('the times of a step', () => {
  test('add up, and compute is that of the slots that computed longest', () => {
    const timer = new StepTimer();
    const until = performance.now() + 40;
    while (performance.now() < until);
    timer.sent(2);
    timer.answered({ number: 0, slots: 2 }, 4, 30, 1);
    timer.answered({ number: 0, slots: 2 }, 2, 10, 1);
    timer.answered({ number: 1, slots: 1 }, 1, 5, 4);
    const times = timer.finish(3);
    expect(times).toMatchObject({ compute: 20, reduce: 3, optimizer: 3 });
    expect(times.broadcast).toBeCloseTo(2);
    const { compute, wait, reduce, optimizer, broadcast, total } = times;
    expect(compute + wait + reduce + optimizer + broadcast).toBeCloseTo(total);
    expect(wait).toBeGreaterThan(0);
  });

  test('are never negative, whatever workers report', () => {
    const timer = new StepTimer();
    timer.sent(1e6);
    timer.answered({ number: 0, slots: 1 }, 1, 1e9, 0);
    for (const part of Object.values(timer.finish(0))) expect(part).toBeGreaterThanOrEqual(0);
  });
});
