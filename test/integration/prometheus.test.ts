import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Summary } from '../../shared/summary.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { Atelier } from '../support/atelier.js';
import { panelQueries } from '../support/dashboards.js';
import { sumOf, valueOf, type Series } from '../support/exposition.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import {
  startMeasuredCoordinator,
  untilObserved,
  type MeasuredCoordinator,
} from '../support/measured-run.js';
import { Prometheus } from '../support/prometheus.js';
import { hasPrometheus, promtool } from '../support/promtool.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const CONFIG = join(PROJECT_ROOT, 'deploy', 'prometheus');
const TRAIN_ROWS = 1_000;
const BATCH = 64;
const EPOCHS = 2;
const FOLDS = 5;
/** Of an epoch. */
const STEPS = Math.ceil((TRAIN_ROWS * (1 - 1 / FOLDS)) / BATCH);

interface Rules {
  groups: { rules: { record?: string; alert?: string; annotations?: { runbook?: string } }[] }[];
}
const rulesOf = (name: string): Rules['groups'][0]['rules'] =>
  (parse(readFileSync(join(CONFIG, 'rules', name), 'utf8')) as Rules).groups.flatMap(({ rules }) => rules);
const alerts = rulesOf('alerts.yml').map(({ alert }) => alert ?? '');

describe('the rules', () => {
  test('have a runbook for each alert', () => {
    const runbooks = rulesOf('alerts.yml').map(({ annotations }) => annotations?.runbook ?? '');
    for (const [i, runbook] of runbooks.entries()) {
      expect(readFileSync(join(PROJECT_ROOT, runbook), 'utf8')).toContain(`# ${alerts[i] ?? ''}\n`);
    }
    const pages = readdirSync(join(PROJECT_ROOT, 'docs', 'runbooks')).filter((name) => name !== 'README.md');
    expect(new Set(runbooks.map((path) => path.split('/').at(-1)))).toEqual(new Set(pages));
  });

  test('have a test for each alert, firing and not', () => {
    const { tests } = parse(readFileSync(join(CONFIG, 'tests', 'alerts.yml'), 'utf8')) as {
      tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[];
    };
    const checks = tests.flatMap(({ alert_rule_test }) => alert_rule_test);
    for (const alert of alerts) {
      const counts = checks
        .filter(({ alertname }) => alertname === alert)
        .map(({ exp_alerts }) => exp_alerts.length);
      expect(Math.min(...counts), alert).toBe(0);
      expect(Math.max(...counts), alert).toBeGreaterThan(0);
    }
  });

  test.runIf(hasPrometheus('promtool'))('pass promtool', async () => {
    const rules = ['alerts.yml', 'recording.yml'].map((name) => join(CONFIG, 'rules', name));
    await promtool(['check', 'rules', ...rules]);
    await promtool(['check', 'config', '--syntax-only', join(CONFIG, 'prometheus.yml')]);
    await promtool(['test', 'rules', join(CONFIG, 'tests', 'alerts.yml')]);
  });
});

/** The rules for a run of seconds on this disk: sooner, and the same else. */
function inAHurry(rules: string): string {
  return rules
    .replace(/for: \w+/g, 'for: 0s')
    .replaceAll('age_seconds > 10\n', 'age_seconds > 4\n')
    .replaceAll('disk_free_bytes < 2e9', `disk_free_bytes < ${freeBytes - HOARD_BYTES / 2}`)
    .replaceAll(/\[(1|5|30)m\]/g, '[20s]');
}

/** What fills the disk. */
const HOARD_BYTES = 2e9;
const { bavail, bsize } = statfsSync(tmpdir());
const freeBytes = bavail * bsize;

describe('a run of five folds on two workers, one of which is killed', () => {
  const folder = temporaryFolder();
  let measured: MeasuredCoordinator;
  let prometheus: Prometheus | undefined;
  let one: Atelier;
  let data: string;
  let summary: Summary;
  let series: Series[];
  let text: string;
  let withoutData: string[] = [];
  const targets: string[] = [];

  beforeAll(async () => {
    data = writeSmallFashionMnist(join(folder, 'data'), TRAIN_ROWS, 200);
    const { observer, stepped } = untilObserved();
    const settings = {
      dataset: data,
      model: 'lenet',
      folds: FOLDS,
      epochs: EPOCHS,
      batchSize: BATCH,
      learningRate: 0.002,
    };
    measured = await startMeasuredCoordinator(folder);
    const run = await measured.start('measured', settings, { minWorkers: 2, observer });
    if (hasPrometheus('prometheus')) {
      prometheus = await Prometheus.start(folder, measured.target, inAHurry);
    }
    const start = (name: string): Atelier =>
      new Atelier([
        ...['worker', '--join', measured.url, '--name', name, '--slots', '1', '--dataset', data],
        ...['--metrics-listen', '127.0.0.1:0'],
      ]);
    const isUp = (count: number) => async (): Promise<boolean> =>
      (await prometheus?.query('up == 1'))?.length === count;
    const page = async (worker: Atelier): Promise<string> =>
      (await worker.says(/Metrics at http:\/\/(\S+)\/metrics/))[1] ?? '';
    one = start('one');
    targets.push(await page(one));
    await prometheus?.until(isUp(2));
    // Every trial has been validated.
    const trained = Promise.all(Array.from({ length: FOLDS }, (_, fold) => stepped(fold, STEPS + 1)));
    const two = start('two');
    await trained;
    two.child.kill('SIGKILL');
    // The run waits for its second worker.
    await prometheus?.until(async () => (await firing()).has('AtelierWorkersBelowDesired'));
    if (prometheus !== undefined) withoutData = await prometheus.withoutData(panelQueries('20s'));
    targets.push(await page(start('two')));
    await run.ended;
    summary = run.summary();
    ({ text, series } = await measured.scrape());
    await prometheus?.until(isUp(3));
    await prometheus?.until(
      async () => (await prometheus?.query('atelier_run_status{status="done"} == 1'))?.length === 1,
    );
  }, 120_000);

  afterAll(async () => {
    await prometheus?.stop();
    await measured.close();
  });

  const firing = async (): Promise<Set<string>> =>
    new Set((await prometheus?.firing())?.map(({ metric }) => metric['alertname'] ?? ''));

  test.runIf(hasPrometheus('prometheus'))('has data for every panel of every dashboard', () => {
    expect(panelQueries('20s').length).toBeGreaterThan(100);
    expect(withoutData).toEqual([]);
  });

  test('has metrics that say exactly what its summary says', () => {
    const value = (name: string, labels = {}): number => valueOf(series, `atelier_${name}`, labels);
    expect(summary.status).toBe('done');
    expect(value('run_status', { status: 'done' })).toBe(1);
    expect(value('run_progress_ratio')).toBe(1);
    expect(summary.trials).toHaveLength(FOLDS);
    for (const trial of summary.trials) {
      const labels = { trial: String(trial.fold) };
      const rows = trial.epochs.reduce((sum, epoch) => sum + epoch.rows, 0);
      expect(rows).toBe(EPOCHS * TRAIN_ROWS * (1 - 1 / FOLDS));
      expect(value('rows_total', labels)).toBe(rows);
      expect(value('ledger_rows', labels)).toBe(rows);
      expect(value('steps_total', labels)).toBe(EPOCHS * Math.ceil(rows / EPOCHS / BATCH));
      expect(value('trial_step', labels)).toBe(value('trial_steps', labels));
      expect(value('trial_epoch', labels)).toBe(EPOCHS);
      const last = trial.epochs.at(-1);
      const close = (figure: number, to: number | null | undefined): void =>
        expect(Math.abs(figure - (to ?? NaN))).toBeLessThanOrEqual(1e-6);
      close(value('trial_loss', { ...labels, split: 'train' }), last?.loss);
      close(value('trial_accuracy', { ...labels, split: 'train' }), last?.accuracy);
      close(value('trial_loss', { ...labels, split: 'validation' }), last?.valLoss);
      close(value('trial_accuracy', { ...labels, split: 'validation' }), last?.valAccuracy);
    }
    const retries = (reason: string): number => value('lease_retries_total', { reason });
    expect(retries('lost') + retries('died')).toBe(summary.retries);
    expect(retries('lost')).toBeGreaterThan(0);
    expect(retries('late')).toBe(summary.elasticity.speculated);
    expect(value('late_partials_total')).toBe(summary.elasticity.late);
    expect(value('worker_leaves_total', { reason: 'lost' })).toBe(summary.elasticity.workersLost);
  });

  test('measures each step once, and its parts add up', () => {
    const steps = sumOf(series, 'atelier_steps_total');
    const seconds = (phase: string): number => valueOf(series, 'atelier_step_seconds_sum', { phase });
    expect(valueOf(series, 'atelier_step_seconds_count', { phase: 'total' })).toBe(steps);
    const parts = ['compute', 'wait', 'reduce', 'optimizer', 'broadcast'].map(seconds);
    for (const part of parts) expect(part).toBeGreaterThan(0);
    expect(parts.reduce((sum, part) => sum + part)).toBeCloseTo(seconds('total'), 6);
  });

  test.runIf(hasPrometheus('promtool'))('has metrics that pass promtool', async () => {
    expect(await promtool(['check', 'metrics'], text)).toBe('');
  });

  test.runIf(hasPrometheus('prometheus'))('is scraped through /sd, and its workers too', async () => {
    const samples =
      (await prometheus?.query('max by (instance, component, worker) (max_over_time(up[5m]))')) ?? [];
    const seen = samples.map(({ metric }) => [
      metric['component'],
      metric['instance'],
      metric['worker'] ?? '',
    ]);
    expect(seen).toContainEqual(['coordinator', measured.target, '']);
    expect(seen).toContainEqual(['worker', targets[0], 'one']);
    expect(seen).toContainEqual(['worker', targets[1], 'two']);
    const rows = (await prometheus?.query('last_over_time(atelier_pool_rows_total{worker="one"}[5m])')) ?? [];
    expect(Number(rows[0]?.value[1])).toBeGreaterThan(0);
  });

  test.runIf(hasPrometheus('prometheus'))('gives samples to every recording rule', async () => {
    for (const { record = '' } of rulesOf('recording.yml')) {
      expect((await prometheus?.query(`last_over_time(${record}[5m])`))?.length, record).toBeGreaterThan(0);
    }
  });

  test.runIf(hasPrometheus('prometheus'))(
    'made the alert of the killed worker fire, and clear again',
    async () => {
      const fired = await prometheus?.query(
        'max_over_time(ALERTS{alertstate="firing",alertname="AtelierWorkersBelowDesired"}[5m])',
      );
      expect(fired).toHaveLength(1);
      await prometheus?.until(async () => !(await firing()).has('AtelierWorkersBelowDesired'));
    },
  );

  test.runIf(hasPrometheus('prometheus'))('and other faults make their alerts fire, and clear', async () => {
    const hoard = join(folder, 'hoard');
    const settings = {
      dataset: data,
      model: 'dense',
      folds: 2,
      epochs: 1,
      optimizer: 'sgd',
      learningRate: 1_000,
    } as const;
    const hopeless = await measured.start('hopeless', settings, { minWorkers: 1 });
    expect((await hopeless.ended).status).toBe('failed');
    execFileSync('fallocate', ['-l', String(HOARD_BYTES), hoard]);
    one.child.kill('SIGSTOP');
    const faults = [
      'AtelierLossNotFinite',
      'AtelierFoldFailed',
      'AtelierHeartbeatStale',
      'AtelierDiskFilling',
    ];
    await prometheus?.until(async () => {
      const now = await firing();
      return faults.every((alert) => now.has(alert));
    });
    const trials = await prometheus?.query('ALERTS{alertname="AtelierLossNotFinite",alertstate="firing"}');
    expect(trials?.map(({ metric }) => metric['run'])).toEqual(['hopeless', 'hopeless']);
    one.child.kill('SIGCONT');
    rmSync(hoard);
    await prometheus?.until(async () => {
      const now = await firing();
      return !now.has('AtelierHeartbeatStale') && !now.has('AtelierDiskFilling');
    });
  });
});
