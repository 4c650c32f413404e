/**
 * `npm run observe`: a real Prometheus watches a real service: a cross-validation of five folds on two workers, found through /sd.
 * Every panel of every dashboard and every recording rule must have data; then faults must make their alerts fire, and clear
 * again. The rules are those of deploy/prometheus with short waits. Needs Debian's package `prometheus`; as root the runs
 * are on a small disk of their own (tmpfs), which is filled.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { RUN_SHOWN_MS } from '../../coordinator/metrics/coordinator-metrics.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { panelQueries } from '../support/dashboards.js';
import { Prometheus } from '../support/prometheus.js';
import { hasPrometheus, promtool } from '../support/promtool.js';
import { Command, endAll } from './processes.js';

const RATE_INTERVAL = '20s';
const DISK_MEGABYTES = 400;
/** Less than so much is full. */
const FULL_MEGABYTES = 100;
const LEFT_MEGABYTES = 50;
const PATIENCE_MS = 120_000;
/** A worker that runs for so long of each cycle is slow. */
const SLOW = { runMs: 20, cycleMs: 100 };
const CONFIG = join(PROJECT_ROOT, 'deploy', 'prometheus');

const say = (text: string): boolean =>
  process.stdout.write(`${process.uptime().toFixed(0).padStart(4)} s  ${text}\n`);

/** The rules of deploy/, with seconds for minutes. */
const inAHurry = (rules: string): string =>
  rules
    .replace(/for: \w+/g, 'for: 2s')
    .replaceAll(/\[(1|5|10|30)m\]/g, `[${RATE_INTERVAL}]`)
    .replaceAll('disk_free_bytes < 2e9', `disk_free_bytes < ${FULL_MEGABYTES}e6`)
    .replaceAll('4 * 3600', '30');

interface Rules {
  groups: { rules: { record?: string }[] }[];
}
const recordingRules = (parse(readFileSync(join(CONFIG, 'rules', 'recording.yml'), 'utf8')) as Rules).groups
  .flatMap(({ rules }) => rules)
  .map(({ record = '' }) => record);

/** A disk of its own for the runs; null when it cannot be had. */
function mountDisk(path: string): (() => void) | null {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MEGABYTES}m`, 'atelier-observe', path], {
      stdio: 'ignore',
    });
    return () => execFileSync('umount', [path]);
  } catch {
    return null;
  }
}

async function observe(folder: string): Promise<void> {
  const runs = join(folder, 'runs');
  mkdirSync(runs);
  const unmount = mountDisk(runs);
  let prometheus: Prometheus | undefined;
  try {
    const serve = (listen: string): Command =>
      new Command(['coordinator', '--listen', listen, '--runs', runs]);
    let service = serve('127.0.0.1:0');
    const [, target = ''] = await service.says(/Coordinator at ws:\/\/([^,\s]+)/);
    prometheus = await Prometheus.start(folder, target, inAHurry);
    const watch = new Watch(prometheus);
    const joining = ['worker', '--join', `ws://${target}`, '--slots', '1', '--metrics-listen', '127.0.0.1:0'];
    const work = (name: string): Command => new Command([...joining, '--name', name]);
    const one = work('one');
    let two = work('two');
    await watch.until('all three are scraped through /sd', 'up == 1', 3);

    const submit = async (settings: object): Promise<string> => {
      const response = await fetch(`http://${target}/api/v1/runs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ config: settings }),
      });
      if (!response.ok) throw new Error(await response.text());
      return ((await response.json()) as { name: string }).name;
    };
    const recipe = { model: 'dense', folds: 2, epochs: 1, optimizer: 'sgd', learningRate: 1_000 };
    const hopeless = await submit({ name: 'hopeless', ...recipe, minWorkers: 1 });
    await watch.fires('a loss becomes infinite', ['AtelierLossNotFinite', 'AtelierFoldFailed']);
    const diverged = await prometheus.query('ALERTS{alertname="AtelierLossNotFinite",alertstate="firing"}');
    if (diverged.some(({ metric }) => metric['run'] !== hopeless)) throw new Error('it names another run');
    const divergedAt = Date.now();

    await submit({ name: 'five-folds', model: 'lenet', folds: 5, epochs: 1_000, minWorkers: 2 });
    await watch.until(
      'five folds have validated an epoch',
      'atelier_trial_accuracy{split="validation",run=~".*five-folds"}',
      5,
    );
    const queries = panelQueries(RATE_INTERVAL);
    const missing = await prometheus.withoutData([
      ...queries,
      ...recordingRules.map((expr) => ({ panel: 'recording rule', expr })),
    ]);
    if (missing.length > 0) throw new Error(`no data for\n${missing.join('\n')}`);
    say(
      `data for ${queries.length} queries of panels and variables and ${recordingRules.length} recording rules`,
    );
    const page = await (await fetch(`http://${target}/metrics`)).text();
    const fault = await promtool(['check', 'metrics'], page);
    if (fault !== '') throw new Error(fault);
    const rules = ['alerts.yml', 'recording.yml'].map((name) => join(CONFIG, 'rules', name));
    await promtool(['check', 'rules', ...rules]);
    await promtool(['check', 'config', '--syntax-only', join(CONFIG, 'prometheus.yml')]);
    await promtool(['test', 'rules', join(CONFIG, 'tests', 'alerts.yml')]);
    say('promtool finds no fault in metrics, rules and configuration');
    await watch.only(['AtelierLossNotFinite', 'AtelierFoldFailed']);

    await two.kill();
    await watch.fires('a worker is killed', ['AtelierWorkersBelowDesired', 'AtelierHeartbeatStale']);
    two = work('two');
    await watch.clears('another takes its place', ['AtelierWorkersBelowDesired', 'AtelierHeartbeatStale']);

    two.child.kill('SIGSTOP');
    await watch.fires('a worker is stopped', ['AtelierHeartbeatStale', 'AtelierWorkersBelowDesired']);
    two.child.kill('SIGCONT');
    await watch.clears('it goes on', ['AtelierHeartbeatStale', 'AtelierWorkersBelowDesired']);

    const slow = setInterval(() => {
      two.child.kill('SIGCONT');
      setTimeout(() => two.child.kill('SIGSTOP'), SLOW.runMs);
    }, SLOW.cycleMs);
    await watch.fires('a worker gets a fifth of its time', ['AtelierStraggler']);
    clearInterval(slow);
    await sleep(SLOW.cycleMs);
    two.child.kill('SIGCONT');
    await watch.clears('it gets all of it', ['AtelierStraggler']);

    const foreign = Array.from({ length: 60 }, () =>
      fetch(`http://${target}/metrics`, { headers: { origin: 'http://elsewhere.example' } }),
    );
    await Promise.all(foreign);
    await watch.fires('a foreign page asks and asks', ['AtelierLoginsRefused']);
    await watch.clears('it stops', ['AtelierLoginsRefused']);

    if (unmount === null) say('not checked: a full disk (mounting one takes root)');
    else {
      const hoard = join(runs, 'hoard');
      const { bavail, bsize } = statfsSync(runs);
      execFileSync('fallocate', ['-l', String(bavail * bsize - LEFT_MEGABYTES * 1e6), hoard]);
      await watch.fires('the disk is filled', ['AtelierDiskFilling']);
      rmSync(hoard);
      await watch.clears('there is room', ['AtelierDiskFilling']);
    }

    const left = Math.max(0, divergedAt + RUN_SHOWN_MS - Date.now());
    await watch.clears('the diverged run is forgotten', ['AtelierLossNotFinite', 'AtelierFoldFailed'], left);

    await service.kill();
    await watch.fires('the coordinator is killed', ['AtelierCoordinatorDown']);
    service = serve(target);
    await watch.clears('it is back', ['AtelierCoordinatorDown', 'AtelierWorkersBelowDesired']);
    await watch.until('its run goes on', 'resets(atelier_steps_total{run=~".*five-folds"}[1m]) > 0', 5);
    one.child.kill();
    service.child.kill();
  } finally {
    endAll();
    await prometheus?.stop();
    await sleep(1_000);
    unmount?.();
  }
}

/** Waits for what Prometheus says of the alerts, and tells how long it took. */
class Watch {
  constructor(private readonly prometheus: Prometheus) {}

  async fires(cause: string, alerts: readonly string[]): Promise<void> {
    await this.see(`${cause}: ${alerts.join(', ')}`, async () => {
      const firing = await this.firing();
      return alerts.every((alert) => firing.has(alert));
    });
  }

  /** These and no others fire now. */
  async only(alerts: readonly string[]): Promise<void> {
    const others = [...(await this.firing())].filter((alert) => !alerts.includes(alert));
    if (others.length > 0) throw new Error(`nothing is wrong, but these fire: ${others.join(', ')}`);
    say('no other alert fires');
  }

  async clears(cause: string, alerts: readonly string[], patienceMs = 0): Promise<void> {
    const clear = async (): Promise<boolean> => {
      const firing = await this.firing();
      return alerts.every((alert) => !firing.has(alert));
    };
    await this.see(`${cause}: clear`, clear, patienceMs + PATIENCE_MS);
  }

  async until(what: string, promql: string, count: number): Promise<void> {
    await this.see(what, async () => (await this.prometheus.query(promql)).length === count);
  }

  private async see(what: string, isSo: () => Promise<boolean>, patienceMs = PATIENCE_MS): Promise<void> {
    const before = performance.now();
    try {
      await this.prometheus.until(isSo, patienceMs);
    } catch (error) {
      const firing = [...(await this.firing())].join(', ');
      throw new Error(`waited in vain: ${what} (firing: ${firing || 'none'})`, { cause: error });
    }
    say(`${what} (after ${((performance.now() - before) / 1000).toFixed(0)} s)`);
  }

  private async firing(): Promise<Set<string>> {
    return new Set((await this.prometheus.firing()).map(({ metric }) => metric['alertname'] ?? ''));
  }
}

if (!hasPrometheus('prometheus') || !hasPrometheus('promtool')) process.exitCode = 1;
else {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-observe-'));
  try {
    await observe(folder);
    say('all of it was seen');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
