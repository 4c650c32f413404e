import type { CheckpointStore } from './checkpoint-store.js';
import type { RunDirectory } from './run-directory.js';
import type { Resumption } from './run.js';
import type { TrialPlan } from './trial-plan.js';
import type { TrialState } from './trial.js';

/** What is read of a run directory. */
export interface ResumableJournal extends Pick<
  RunDirectory,
  'rewriteEpochs' | 'readManifest' | 'amendManifest'
> {
  checkpoints(fold: number | null, keep: number): Pick<CheckpointStore, 'newest' | 'removeLeftovers'>;
}

/**
 * What a run directory says of the run it belongs to: the newest usable checkpoint of every trial. Metrics beyond the
 * checkpoints are cut off, because they come again.
 * @param onDamaged called for each checkpoint that is not whole; the one before it is taken instead
 * @throws AtelierError `refused` when the checkpoints belong to another config, model or dataset
 */
export async function findResumption(
  directory: ResumableJournal,
  plans: readonly TrialPlan[],
  onDamaged: (file: string, why: string) => void,
): Promise<Resumption> {
  const states = new Map<number, TrialState>();
  for (const { trial, fold, identity } of plans) {
    const store = directory.checkpoints(fold, 1);
    await store.removeLeftovers();
    const found = await store.newest(identity, onDamaged);
    if (found !== undefined) states.set(trial, found.checkpoint.state);
  }
  directory.rewriteEpochs(
    plans.map(({ trial, fold }) => ({ trial, fold, records: states.get(trial)?.records ?? [] })),
  );
  const manifest = directory.readManifest();
  const { numericsFingerprint, resumes } = manifest;
  const before = typeof resumes === 'number' ? resumes : 0;
  directory.amendManifest({ resumes: before + 1 });
  return {
    states,
    fingerprint: typeof numericsFingerprint === 'string' ? numericsFingerprint : null,
    resumes: before + 1,
  };
}
