import { hasDataset, loadDataset, type Dataset } from '../shared/dataset/load.js';

/** Where a dataset may be on this disk. */
export interface LocalDataFlags {
  readonly dataset: string;
  readonly dataDir?: string;
}

/** The dataset on this disk; null when it is not there. One that is there but damaged is an error. */
export function localDataset(flags: LocalDataFlags, env: NodeJS.ProcessEnv): Dataset | null {
  const source = { dataset: flags.dataset, dataDir: flags.dataDir ?? env['ATELIER_DATA_DIR'] ?? null, env };
  return hasDataset(source) ? loadDataset(source) : null;
}
