import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ReplayCheck, readRecord } from '../coordinator/replay-check.js';
import { observeAll } from '../coordinator/run-observer.js';
import { RunDirectory } from '../coordinator/run-directory.js';
import { ClusterConfig } from '../shared/config.js';
import { ExitCode } from '../shared/errors.js';
import { parseCount } from './numbers.js';
import { addRunOptions, resolveResumedConfig } from './options.js';
import { loadMaterial, runOnCluster } from './run-on-cluster.js';
import { addSecurityOptions, type SecurityFlags } from './security.js';
import { Terminal } from './terminal.js';

interface VerifyFlags extends SecurityFlags, Record<string, unknown> {
  readonly fromStep?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const MAX_STEP = 2 ** 40;

export function addVerifyCommand(program: Command): void {
  const command = program
    .command('verify')
    .description(
      'train a finished or stopped run again, on whatever cluster there is, and compare every hash',
    )
    .argument('<run>', 'run directory');
  addRunOptions(command, Object.keys(ClusterConfig.shape));
  addSecurityOptions(command);
  command
    .option('--from-step <n>', 'begin at the newest checkpoint that is not beyond this step (default: 0)')
    .option('--json', 'print what was compared as JSON on stdout and nothing else')
    .option('--quiet', 'print errors only')
    .action(async (run: string, flags: VerifyFlags) => {
      process.exitCode = await verify(run, flags, process.env);
    });
}

async function verify(path: string, flags: VerifyFlags, env: NodeJS.ProcessEnv): Promise<ExitCode> {
  const original = RunDirectory.existing(path);
  const fromStep = flags.fromStep === undefined ? 0 : parseCount('--from-step', flags.fromStep, 0, MAX_STEP);
  const saved = original.readConfig();
  // Addresses and names of the first run are not this one's.
  const config = resolveResumedConfig({ ...saved, listen: '127.0.0.1:0', name: null }, flags, env);
  const stream = flags.json === true ? process.stderr : process.stdout;
  const terminal = new Terminal({ stream, quiet: flags.quiet === true, config });
  const material = await loadMaterial(config, env);
  const record = await readRecord(original, material.plans, fromStep);
  const scratch = mkdtempSync(join(tmpdir(), 'atelier-verify-'));
  try {
    const directory = RunDirectory.fresh(join(scratch, 'run'));
    const check = new ReplayCheck(record);
    const { end } = await runOnCluster({
      config,
      material,
      flags,
      env,
      terminal,
      observe: (stop) => observeAll([terminal, check.observer(stop)]),
      directory,
      prepare: () => {
        directory.create();
        directory.writeConfig(config);
        directory.writeManifest({ numericsFingerprint: null });
        return Promise.resolve({ states: record.states, fingerprint: record.fingerprint, resumes: 0 });
      },
      finish: (replayed) => check.finish(replayed.summary()),
    });
    if (flags.json === true) process.stdout.write(`${JSON.stringify(check.report)}\n`);
    const { steps, epochs, trials } = check.report;
    if (end.error === null) {
      terminal.line(
        `Verified: ${steps} steps, ${epochs} epoch hashes and ${trials} final weights are the same`,
      );
      return ExitCode.done;
    }
    throw end.error;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
