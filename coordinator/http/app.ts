import type { IncomingMessage } from 'node:http';
import swagger from '@fastify/swagger';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify';
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import { MAX_BODY_BYTES } from '../../shared/api.js';
import { AtelierError, messageOf } from '../../shared/errors.js';
import type { Scope } from '../../shared/join-token.js';
import { ATELIER_VERSION } from '../../shared/version.js';
import type { Refusal } from '../security/request-guard.js';
import { HttpProblem } from './errors.js';

/** A fastify instance whose routes have their types from zod schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

/** Adds routes to the app: one file, one plugin. */
export type RoutePlugin = (app: App) => void;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may ask; null: anybody. Left out: tokens to read and to administer. */
    readonly scopes?: readonly Scope[] | null;
  }
}

/** Who looks at the tokens of requests. */
export interface Door {
  /** Undefined for a request that may go on; it then has no time limit any more. */
  refuse(request: IncomingMessage, wanted: readonly Scope[]): Refusal | undefined;
}

const JOIN_HINT =
  'This is an Atelier coordinator. Join it with: atelier worker --join ws://HOST:PORT (wss:// with TLS)\n';

const READERS: readonly Scope[] = ['read', 'admin'];
/** Routes that change something say this. */
export const ADMINS: readonly Scope[] = ['admin'];

/** The HTTP side of a coordinator: its routes behind one login. The listening server is `CoordinatorServer`'s. */
export async function buildApp(door: Door, plugins: readonly RoutePlugin[]): Promise<App> {
  const app: App = Fastify({
    bodyLimit: MAX_BODY_BYTES,
    routerOptions: { maxParamLength: 256 },
    exposeHeadRoutes: true,
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  // Before the body is read: who has no token sends nothing.
  app.addHook('onRequest', async (request, reply) => {
    void reply.headers({
      'cache-control': 'no-store',
      connection: 'close',
      'x-content-type-options': 'nosniff',
    });
    if (request.is404) return notFound(request, reply);
    const { scopes = READERS } = request.routeOptions.config;
    if (scopes === null) return;
    const refusal = door.refuse(request.raw, scopes);
    if (refusal !== undefined) throw new HttpProblem(refusal.status, refusal.message);
  });
  app.setErrorHandler((error, _request, reply) => {
    const status = statusOf(error);
    if (error instanceof HttpProblem && error.retryAfterSeconds !== null) {
      void reply.header('retry-after', String(error.retryAfterSeconds));
    }
    const message = status === 500 ? `internal error: ${messageOf(error)}` : messageOf(error);
    return reply.status(status).send({ error: message });
  });
  app.setNotFoundHandler(notFound);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Atelier coordinator',
        version: ATELIER_VERSION,
        description: 'Runs and workers of one coordinator. Errors are `{ error }`.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    transform: jsonSchemaTransform,
  });
  await app.register((scope, _options, done) => {
    for (const plugin of plugins) plugin(scope);
    (scope as unknown as App).get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
    done();
  });
  await app.ready();
  return app;
}

function notFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (request.url === '/') return reply.status(426).header('upgrade', 'websocket').send(JOIN_HINT);
  return reply
    .status(404)
    .send({ error: `There is nothing at ${request.method} ${request.url.slice(0, 200)}.` });
}

function statusOf(error: unknown): number {
  if (error instanceof AtelierError) return error.code === 'usage' ? 400 : 500;
  const { statusCode } = error as { statusCode?: unknown };
  return typeof statusCode === 'number' && statusCode >= 400 ? statusCode : 500;
}
