import type { RunConfig } from '../../../shared/config.js';

/** What is trained: one shard for each worker, of one row a step. */
export const settingsOf = (model: string, workers: number): Partial<RunConfig> => ({
  ...{ model, shards: workers, batchSize: workers, workers: 0, minWorkers: workers },
  ...{ validationRows: 0, l2: 0, epochs: 1 },
});
