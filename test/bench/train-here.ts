import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadMaterial, runOnCluster } from '../../cli/run-on-cluster.js';
import type { SecurityFlags } from '../../cli/security.js';
import { Terminal } from '../../cli/terminal.js';
import { observeAll, type RunObserver } from '../../coordinator/run-observer.js';
import { RunDirectory } from '../../coordinator/run-directory.js';
import { parseRunConfig, type RunConfig } from '../../shared/config.js';
import { AtelierError } from '../../shared/errors.js';
import type { Summary } from '../../shared/summary.js';
import { PROJECT_ROOT } from '../../shared/version.js';

/** A port that is likely to be free; a benchmark that meets a taken one says so and ends. */
let nextPort = 20_000 + Math.floor(Math.random() * 20_000);

/** Worker processes of a benchmark's own, to do things to. */
export class BenchWorkers {
  readonly listen = `127.0.0.1:${nextPort++}`;
  readonly children: ChildProcess[] = [];

  /** @param above the address that it joins */
  start(name: string, slots: number, above = this.listen): ChildProcess {
    return this.spawn(name, ['worker', '--join', `ws://${above}`, '--slots', String(slots)]);
  }

  /** Starts a relay that waits for so many workers and sends them everything. Returns its address. */
  startRelay(name: string, minWorkers: number, above = this.listen): string {
    const listen = `127.0.0.1:${nextPort++}`;
    const flags = ['--min-workers', String(minWorkers), '--no-shared-memory'];
    this.spawn(name, ['relay', '--join', `ws://${above}`, '--listen', listen, ...flags]);
    return listen;
  }

  private spawn(name: string, flags: readonly string[]): ChildProcess {
    const main = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
    const args = [main, ...flags, '--name', name];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2_000)));
    child.once('exit', (code) => {
      if (code === null || code === 0) return;
      process.stderr.write(`${name} ended with ${code}:\n${said}`);
      process.exit(1);
    });
    this.children.push(child);
    return child;
  }

  kill(): void {
    for (const child of this.children) child.kill('SIGKILL');
  }
}

const ENOUGH = new AtelierError('stopped', 'that is enough');

/**
 * Trains in this process as `atelier train` does and returns the summary; throws when the run does not end well.
 * @param isEnough asked after each step: whether the run may be stopped before its time
 * @param flags of the coordinator's door
 */
export async function trainHere(
  settings: Partial<RunConfig>,
  observer: Partial<RunObserver> = {},
  isEnough: () => boolean = () => false,
  flags: SecurityFlags = {},
): Promise<Summary> {
  const config = parseRunConfig(settings);
  const material = await loadMaterial(config, process.env);
  const scratch = mkdtempSync(join(tmpdir(), 'atelier-bench-'));
  try {
    const directory = RunDirectory.fresh(join(scratch, 'run'));
    const { end, run } = await runOnCluster({
      config,
      material,
      flags,
      env: process.env,
      terminal: new Terminal({ stream: process.stderr, quiet: true, config }),
      observe: (stop) => {
        return observeAll([
          observer,
          {
            stepped: () => {
              if (isEnough()) stop(ENOUGH);
            },
          },
        ]);
      },
      directory,
      prepare: () => {
        directory.create();
        directory.writeConfig(config);
        directory.writeManifest({});
        return Promise.resolve(null);
      },
      finish: () => null,
    });
    if (end.error !== null && end.error !== ENOUGH) throw end.error;
    return run.summary();
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
};
