import { join } from 'node:path';
import { messageOf } from '../../shared/errors.js';
import type { TensorLayout } from '../../shared/layout.js';
import type { RunObserver } from '../run-observer.js';
import { TensorBoardWriter } from './event-file.js';

export interface TensorBoardOptions {
  /** The run's `tensorboard/`: of a plain run it has the event file, of a k-fold run a folder for each trial. */
  readonly folder: string;
  /** The fold of each trial, by its number; null for a plain run or the final fit. */
  readonly folds: readonly (number | null)[];
  readonly layout: TensorLayout;
  /** Told once, when no more can be written; the run goes on without. */
  readonly onTrouble: (message: string) => void;
}

/** Writes each epoch for TensorBoard while the run goes on: `tensorboard --logdir RUN/tensorboard`. */
export function tensorBoardObserver(
  options: TensorBoardOptions,
): Pick<RunObserver, 'epochEnded' | 'trialEnded'> {
  const { folder, folds, layout, onTrouble } = options;
  const writers = new Map<number, TensorBoardWriter>();
  let isBroken = false;
  const folderOf = (trial: number): string => {
    if (folds.length === 1) return folder;
    const fold = folds[trial] ?? null;
    return join(folder, fold === null ? 'final' : `fold-${fold}`);
  };
  const attempt = (write: () => void): void => {
    if (isBroken) return;
    try {
      write();
    } catch (error) {
      isBroken = true;
      onTrouble(`no more is written for TensorBoard: ${messageOf(error)}`);
    }
  };
  return {
    epochEnded(trial, record, weights) {
      attempt(() => {
        let writer = writers.get(trial);
        if (writer === undefined) {
          writer = new TensorBoardWriter(folderOf(trial));
          writers.set(trial, writer);
        }
        writer.epoch(record, layout, weights);
      });
    },
    trialEnded(trial) {
      attempt(() => writers.get(trial)?.close());
      writers.delete(trial);
    },
  };
}
