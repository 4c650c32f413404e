import { randomBytes } from 'node:crypto';
import { SCOPES } from '../../shared/join-token.js';
import type { RoutePlugin } from './app.js';
import { HttpProblem } from './errors.js';

/** Without a token: whether the process answers. For probes of containers. */
export const HEALTH_PATH = '/healthz';
/** Without a token: whether runs can be taken in and computed. */
export const READY_PATH = '/readyz';
/** With any token: bytes whose arrival tells what the line carries. For `atelier doctor`. */
export const PROBE_PATH = '/v1/probe';
/** 8 MiB that no proxy can compress. */
const PROBE_BYTES = randomBytes(8 * 1024 * 1024);

/** @param readiness why the coordinator is not ready, or null */
export const healthRoutes =
  (readiness: () => string | null): RoutePlugin =>
  (app) => {
    app.get(
      HEALTH_PATH,
      { config: { scopes: null }, schema: { description: 'Whether the process answers.' } },
      (_request, reply) => reply.type('text/plain').send('ok\n'),
    );
    app.get(
      READY_PATH,
      { config: { scopes: null }, schema: { description: 'Whether runs are taken in.' } },
      (_request, reply) => {
        const trouble = readiness();
        if (trouble !== null) throw new HttpProblem(503, trouble, 1);
        return reply.type('text/plain').send('ready\n');
      },
    );
    app.get(PROBE_PATH, { config: { scopes: SCOPES }, schema: { hide: true } }, (_request, reply) =>
      reply.type('application/octet-stream').send(PROBE_BYTES),
    );
  };
