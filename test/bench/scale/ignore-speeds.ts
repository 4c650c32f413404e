import { Scheduler } from '../../../coordinator/scheduler.js';

/**
 * Workers that compute are about as fast as each other. Here whose socket is served first would count as fast, and get the
 * work of others. So speeds stay unknown, and every worker has its shard.
 */
export function ignoreSpeeds(): void {
  (Scheduler.prototype as unknown as { measure: () => void }).measure = () => undefined;
}
