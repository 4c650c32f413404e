import { z } from 'zod';
import { WorkerStatus } from '../../shared/api.js';
import type { RoutePlugin } from './app.js';

/** @param workers those that are here, and those that were lost a short while ago */
export const workerRoutes =
  (workers: () => WorkerStatus[]): RoutePlugin =>
  (app) => {
    app.get(
      '/api/v1/workers',
      {
        schema: {
          description: 'The workers that are here, and those lost a short while ago.',
          response: { 200: z.object({ workers: z.array(WorkerStatus) }) },
        },
      },
      () => ({ workers: workers() }),
    );
  };
