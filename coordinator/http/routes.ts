import type { Clock } from '../../shared/clock.js';
import type { Cluster } from '../cluster.js';
import { livePage } from '../live/live-page.js';
import type { RunSource } from '../run-view.js';
import type { RoutePlugin } from './app.js';
import { healthRoutes } from './health.js';
import { runRoutes } from './runs.js';
import { workerRoutes } from './workers.js';

/** What every coordinator answers, whether it is embedded in `atelier train` or on its own. */
export const coordinatorRoutes = ({
  runs,
  cluster,
  clock,
  readiness = () => null,
}: {
  readonly runs: RunSource;
  readonly cluster: Cluster;
  readonly clock: Clock;
  /** Why no run can be taken in now; null: one can. */
  readonly readiness?: () => string | null;
}): RoutePlugin[] => [
  healthRoutes(readiness),
  runRoutes(runs, clock),
  workerRoutes(() => cluster.workers()),
  livePage,
];
