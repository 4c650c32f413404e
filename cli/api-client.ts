import { request as requestPlain, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as requestTls } from 'node:https';
import type { z } from 'zod';
import { MAX_BODY_BYTES, Problem } from '../shared/api.js';
import { AtelierError, messageOf, type ErrorCode } from '../shared/errors.js';
import { NEXT_HEADER } from '../coordinator/http/runs.js';
import { Entrance, type JoinFlags } from './security.js';

const ANSWER_TIMEOUT_MS = 30_000;
/** The largest answer that is read. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

/** Talks to a coordinator's API. The server is checked as a worker checks it, before the token is sent. */
export class ApiClient {
  private readonly entrance: Entrance;

  /** @param flags `join` is the coordinator's address, with ws, wss, http or https */
  constructor(flags: JoinFlags, env: NodeJS.ProcessEnv) {
    this.entrance = new Entrance({ ...flags, join: flags.join.replace(/^http/, 'ws') }, env);
  }

  /** @throws AtelierError `refused`, `usage` with what the coordinator says, `run-failed` when nobody answers */
  async get<Value>(path: string, schema: z.ZodType<Value>): Promise<Value> {
    return this.read(await this.ask('GET', path), schema);
  }

  async post<Value>(path: string, body: unknown, schema: z.ZodType<Value>): Promise<Value> {
    return this.read(await this.ask('POST', path, body), schema);
  }

  /** Lines of a run's log from byte `after` on, and where the next begin. */
  async log(run: string, after: number): Promise<{ lines: string[]; next: number }> {
    const path = `/api/v1/runs/${encodeURIComponent(run)}/events?after=${after}`;
    const { headers, text } = await this.ask('GET', path);
    return { lines: text === '' ? [] : text.trimEnd().split('\n'), next: Number(headers[NEXT_HEADER]) };
  }

  private read<Value>({ text }: Answer, schema: z.ZodType<Value>): Value {
    try {
      return schema.parse(JSON.parse(text));
    } catch (cause) {
      const message = `${this.entrance.url.host} does not answer as this version of Atelier does: install the same on both`;
      throw new AtelierError('usage', message, { cause });
    }
  }

  private async ask(method: string, path: string, body?: unknown): Promise<Answer> {
    const { url, token } = this.entrance;
    const trust = await this.entrance.check();
    if ('unreachable' in trust) throw this.unreachable(trust.unreachable);
    const text = body === undefined ? '' : JSON.stringify(body);
    if (Buffer.byteLength(text) > MAX_BODY_BYTES) {
      throw new AtelierError('usage', `the run's config and topology are over ${MAX_BODY_BYTES} bytes`);
    }
    const options: RequestOptions = {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port || (url.protocol === 'wss:' ? 443 : 80),
      ...{ method, path, agent: false },
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      },
    };
    const answer = await new Promise<Answer>((resolve, reject) => {
      const fail = (error: Error): void => reject(this.unreachable(messageOf(error)));
      const sent = url.protocol === 'wss:' ? requestTls({ ...options, ...trust }) : requestPlain(options);
      sent.setTimeout(ANSWER_TIMEOUT_MS, () => sent.destroy(new Error('no answer in time')));
      sent.once('error', fail);
      sent.once('response', (response) => {
        let received = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          received += part;
          if (received.length > MAX_ANSWER_BYTES) sent.destroy(new Error('the answer is too long'));
        });
        response.once('error', fail);
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text: received }),
        );
      });
      sent.end(text);
    });
    if (answer.status < 400) return answer;
    throw new AtelierError(codeOf(answer.status), problemOf(answer.text));
  }

  private unreachable(why: string): AtelierError {
    const { host } = this.entrance.url;
    const help = 'Is "atelier coordinator" running there? --coordinator or ATELIER_COORDINATOR names another';
    return new AtelierError('run-failed', `cannot reach ${host}: ${why}. ${help}`);
  }
}

function codeOf(status: number): ErrorCode {
  if (status === 401 || status === 403 || status === 421) return 'refused';
  return status >= 500 || status === 429 ? 'run-failed' : 'usage';
}

/** What a coordinator, or something that is none, says is wrong. */
function problemOf(text: string): string {
  try {
    return Problem.parse(JSON.parse(text)).error;
  } catch {
    return text.trim().slice(0, 1_000);
  }
}
