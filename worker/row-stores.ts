import type { Dataset } from '../shared/dataset/load.js';
import type { DatasetInfo } from '../shared/protocol/messages.js';
import { RowStore } from './row-store.js';

/** Datasets whose rows are kept: those used last. */
const MAX_DATASETS = 2;

/** The rows that are here, from one connection to the next. */
export class RowStores {
  private readonly local: Dataset | null;
  private readonly stores = new Map<string, RowStore>();

  /** @param local the dataset on this machine's disk, if there is one */
  constructor(local: Dataset | null) {
    this.local = local;
  }

  for(dataset: DatasetInfo): RowStore {
    const store = this.stores.get(dataset.sha256) ?? new RowStore(dataset, this.local);
    keepNewest(this.stores, dataset.sha256, store, MAX_DATASETS);
    return store;
  }
}

/** Sets a value and forgets those that were set longest ago, beyond the limit. */
export function keepNewest<Value>(map: Map<string, Value>, key: string, value: Value, limit: number): void {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= limit) return;
    map.delete(oldest);
  }
}
