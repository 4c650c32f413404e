import { z } from 'zod';
import { Problem, RunName, Submission, Submitted } from '../../shared/api.js';
import type { RunService } from '../service/service.js';
import { ADMINS, type RoutePlugin } from './app.js';

/** What changes something: handing in runs, and ending them. */
export const submissionRoutes =
  (service: Pick<RunService, 'submit' | 'cancel'>): RoutePlugin =>
  (app) => {
    app.post(
      '/api/v1/runs',
      {
        config: { scopes: ADMINS },
        schema: {
          description: 'Hands in a run. 429: the queue is full.',
          body: Submission,
          response: { 201: Submitted, 400: Problem, 429: Problem },
        },
      },
      ({ body }, reply) => {
        void reply.status(201);
        return service.submit(body);
      },
    );
    app.post(
      '/api/v1/runs/:run/cancel',
      {
        config: { scopes: ADMINS },
        schema: {
          description: 'Ends a run before its time, with checkpoints.',
          params: z.object({ run: RunName }),
          response: { 202: z.object({ name: RunName }), 404: Problem, 409: Problem },
        },
      },
      ({ params }, reply) => {
        service.cancel(params.run);
        void reply.status(202);
        return { name: params.run };
      },
    );
  };
