import { Readable } from 'node:stream';
import { z } from 'zod';
import { MAX_LISTED_RUNS, Problem, RunListItem, RunName, RunState } from '../../shared/api.js';
import type { Clock } from '../../shared/clock.js';
import type { RunSource, RunView } from '../run-view.js';
import type { RoutePlugin } from './app.js';
import { noSuchRun } from './errors.js';
import { readLog } from './events.js';
import { openRunFile } from './run-file.js';
import { Streams } from './stream.js';

/** Where the next lines of the log begin, for `after`. */
export const NEXT_HEADER = 'x-atelier-next';

const ofRun = z.object({ run: RunName });

/** What there is to know of runs. Nothing here changes anything. */
export const runRoutes =
  (source: RunSource, clock: Clock): RoutePlugin =>
  (app) => {
    const streams = new Streams(clock);
    const find = (name: string): RunView => {
      const view = source.find(name);
      if (view === undefined) throw noSuchRun(name);
      return view;
    };
    app.get(
      '/api/v1/runs',
      {
        schema: {
          description: `The runs, newest first, ${MAX_LISTED_RUNS} at most.`,
          response: { 200: z.object({ runs: z.array(RunListItem) }) },
        },
      },
      () => ({
        runs: source.list().map((view) => {
          const { name, status, startedAt, progress } = view.state();
          return { name, status, startedAt, progress };
        }),
      }),
    );
    app.get(
      '/api/v1/runs/:run',
      {
        schema: {
          description: 'How far a run has come.',
          params: ofRun,
          response: { 200: RunState, 404: Problem },
        },
      },
      ({ params }) => find(params.run).state(),
    );
    app.get(
      '/api/v1/runs/:run/events',
      {
        schema: {
          description: `Lines of events.jsonl from byte \`after\` on; header ${NEXT_HEADER}: where the next begin.`,
          params: ofRun,
          querystring: z.object({ after: z.coerce.number().int().min(0).default(0) }),
        },
      },
      ({ params, query }, reply) => {
        const { lines, next } = readLog(find(params.run).path, query.after);
        return reply
          .type('application/x-ndjson')
          .header(NEXT_HEADER, String(next))
          .send(lines.map((line) => `${line}\n`).join(''));
      },
    );
    app.get(
      '/api/v1/runs/:run/stream',
      { schema: { description: 'Server-sent events: `run` (its state), `log` (a line).', params: ofRun } },
      ({ params }, reply) => {
        streams.start(find(params.run), reply.raw);
        reply.hijack();
      },
    );
    app.get(
      '/api/v1/runs/:run/files/*',
      {
        schema: {
          description: 'A file of the run directory.',
          params: z.object({ run: RunName, '*': z.string().max(1_024).describe('its path there') }),
        },
      },
      async ({ params }, reply) => {
        const { file, bytes, type } = await openRunFile(find(params.run).path, params['*']);
        const body = bytes === 0 ? Readable.from([]) : file.createReadStream({ start: 0, end: bytes - 1 });
        if (bytes === 0) await file.close();
        return reply
          .type(type)
          .headers({
            'content-length': String(bytes),
            // What a run left behind must not act as a page of the coordinator.
            'content-security-policy': 'sandbox allow-scripts',
          })
          .send(body);
      },
    );
  };
