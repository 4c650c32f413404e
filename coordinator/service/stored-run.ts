import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunState } from '../../shared/api.js';
import { Summary } from '../../shared/summary.js';
import { epochStates, queuedState } from '../live-run.js';
import type { Submission } from './runs-folder.js';

/** The state of a run that does not go on, from what it has left in its folder. */
export function storedState(path: string, name: string, end: Submission['end'] | undefined): RunState {
  const nothing = queuedState(name);
  const summary = readSummary(path);
  if (summary === null) {
    const reason = 'it was interrupted: go on with atelier train --resume';
    return { ...nothing, ...(end ?? { status: 'stopped', reason }) };
  }
  const { config, status, reason, weightsSha256, trials, throughput, elasticity, retries } = summary;
  return {
    ...nothing,
    ...{ status, reason },
    startedAt: startOf(path),
    progress: status === 'done' ? 1 : 0,
    imagesPerSecond: throughput.imagesPerSecond,
    weightsSha256: status === 'done' ? weightsSha256 : null,
    trials: trials.map(({ fold, status: trialStatus, epochs, ledger }, trial) => {
      const steps = Math.ceil(ledger.rowsPerEpoch / config.batchSize);
      return {
        ...{ trial, fold, steps },
        status: trialStatus,
        epoch: epochs.length,
        epochs: config.epochs,
        step: steps,
        loss: epochs.at(-1)?.loss ?? null,
        epochsDone: epochStates(epochs, config, steps),
      };
    }),
    counts: { ...elasticity, retries },
  };
}

function readSummary(path: string): Summary | null {
  const file = join(path, 'summary.json');
  if (!existsSync(file)) return null;
  try {
    return Summary.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    // Of another version: what it says is not known here.
    return null;
  }
}

function startOf(path: string): string | null {
  try {
    const { startedAt } = JSON.parse(readFileSync(join(path, 'manifest.json'), 'utf8')) as {
      startedAt?: unknown;
    };
    return typeof startedAt === 'string' ? startedAt : null;
  } catch {
    return null;
  }
}
