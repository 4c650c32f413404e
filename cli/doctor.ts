import { execFile } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { performance } from 'node:perf_hooks';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import pc from 'picocolors';
import { PROBE_PATH } from '../coordinator/http/health.js';
import { hasDataset, loadDataset } from '../shared/dataset/load.js';
import { AtelierError, ExitCode, messageOf } from '../shared/errors.js';
import { ATELIER_VERSION } from '../shared/version.js';
import type { ServerTrust } from '../worker/server-trust.js';
import { availableCores } from './numbers.js';
import { addJoinOptions, Entrance, type JoinFlags } from './security.js';

/** Beyond this, times in certificates and tokens begin to matter. */
const MAX_CLOCK_DIFFERENCE_MS = 60_000;
const MIN_FREE_BYTES = 1024 ** 3;
/** Below this the wire is what a run waits for. */
const LOW_BANDWIDTH_BYTES_PER_SECOND = 10 * 1024 * 1024;
const HIGH_LATENCY_MS = 50;
const LATENCY_SAMPLES = 10;
const ANSWER_TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface DoctorFlags extends Omit<JoinFlags, 'join'> {
  readonly join?: string;
  readonly dataset: string;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** One thing looked at. `remedy` says what to do when it is not `good`. */
export interface Finding {
  readonly check: string;
  readonly state: 'good' | 'warning' | 'bad';
  readonly found: string;
  readonly remedy?: string;
}

export function addDoctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description(
      'check this machine, and with --join the way to a coordinator, with a remedy for each trouble',
    )
    .option('--join <url>', 'coordinator to try, such as wss://10.0.0.5:7077')
    .option('--dataset <name>', 'dataset to look for', 'fashion-mnist')
    .option('--data-dir <folder>', 'folder of its files')
    .option('--json', 'print the findings as JSON')
    .action(async (flags: DoctorFlags) => {
      const findings = await examine(flags, process.env);
      if (flags.json === true) process.stdout.write(`${JSON.stringify(findings)}\n`);
      else findings.forEach((finding) => process.stdout.write(line(finding)));
      const isBad = findings.some(({ state }) => state === 'bad');
      process.exitCode = isBad ? ExitCode.runFailed : ExitCode.done;
    });
  addJoinOptions(command);
}

async function examine(flags: DoctorFlags, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  const findings = [node(), await tensorflow(), data(flags, env), space()];
  if (flags.join !== undefined) findings.push(...(await theWayTo({ ...flags, join: flags.join }, env)));
  return findings;
}

const node = (): Finding => ({
  check: 'node',
  state: 'good',
  found: `Atelier ${ATELIER_VERSION}, Node ${process.versions.node}, ${process.platform} ${process.arch}, ${availableCores()} cores`,
});

/** In a process of its own: a library that does not fit may crash it. */
async function tensorflow(): Promise<Finding> {
  const check = 'tensorflow';
  const module = new URL('../worker/tensorflow.js', import.meta.url).href;
  const script = `const { tensorflowVersion } = await import(${JSON.stringify(module)}); console.log(tensorflowVersion())`;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      timeout: ANSWER_TIMEOUT_MS,
      env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3' },
    });
    return { check, state: 'good', found: `native TensorFlow ${stdout.trim().split('\n').at(-1) ?? ''}` };
  } catch (error) {
    const found = `native TensorFlow does not load: ${messageOf(error).split('\n').slice(0, 2).join(' ')}`;
    return { check, state: 'bad', found, remedy: 'run "npm run setup" in the folder of Atelier' };
  }
}

function data(flags: DoctorFlags, env: NodeJS.ProcessEnv): Finding {
  const check = 'data';
  const source = { dataset: flags.dataset, dataDir: flags.dataDir ?? env['ATELIER_DATA_DIR'] ?? null, env };
  try {
    if (hasDataset(source)) {
      const { info } = loadDataset(source);
      const rows = (info.trainRows + info.testRows).toLocaleString('en-US');
      return {
        check,
        state: 'good',
        found: `${info.name}, ${rows} rows, SHA-256 ${info.sha256.slice(0, 16)}`,
      };
    }
  } catch (error) {
    return { check, state: 'bad', found: messageOf(error), remedy: 'get the files again: npm run setup' };
  }
  return {
    check,
    state: 'warning',
    found: `${flags.dataset} is not on this disk`,
    remedy: 'a worker gets its rows over the wire; to train from here: npm run setup, or --data-dir',
  };
}

function space(): Finding {
  const { bavail, bsize } = statfsSync(tmpdir());
  const free = bavail * bsize;
  const found = `${(free / 1024 ** 3).toFixed(1)} GiB free in ${tmpdir()}`;
  if (free >= MIN_FREE_BYTES) return { check: 'disk', state: 'good', found };
  return { check: 'disk', state: 'warning', found, remedy: 'free some space, or set TMPDIR to another disk' };
}

/** Reachability, TLS, token, clock, latency and bandwidth: stops at the first that bars the rest. */
async function theWayTo(flags: JoinFlags, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  let entrance: Entrance;
  let trust: ServerTrust | { unreachable: string };
  try {
    entrance = new Entrance(flags, env);
    trust = await entrance.check();
  } catch (error) {
    if (!(error instanceof AtelierError)) throw error;
    return [
      { check: 'tls', state: 'bad', found: error.message, remedy: 'compare the token and the address' },
    ];
  }
  if ('unreachable' in trust) return [unreachable(flags.join, trust.unreachable)];
  const findings: Finding[] = [];
  try {
    const first = await get(entrance, trust);
    findings.push(
      { check: 'reach', state: 'good', found: `${flags.join} answers` },
      {
        check: 'tls',
        state: entrance.url.protocol === 'wss:' ? 'good' : 'warning',
        found: entrance.url.protocol === 'wss:' ? 'TLS 1.3, the certificate is good' : 'no TLS',
        ...(entrance.url.protocol === 'wss:' ? {} : { remedy: 'fine on one machine; else join with wss://' }),
      },
      token(first),
    );
    if (first.status !== 200) return findings;
    findings.push(clock(first), await latency(entrance, trust), bandwidth(first));
  } catch (error) {
    findings.push(unreachable(flags.join, messageOf(error)));
  }
  return findings;
}

function unreachable(url: string, why: string): Finding {
  const remedy = /certificate|self.signed|altname/i.test(why)
    ? 'use a token of "atelier token create", which knows the certificate, or name its CA with --tls-ca'
    : /hang up|ECONNRESET|wrong version|EPROTO/i.test(why)
      ? 'one side speaks TLS and the other does not: try wss:// instead of ws://, or the other way round'
      : 'is "atelier train --listen" running there, on that port, and does the firewall let it through?';
  return { check: 'reach', state: 'bad', found: `${url}: ${why}`, remedy };
}

function token({ status, text }: Answer): Finding {
  if (status === 200) return { check: 'token', state: 'good', found: 'the token is good' };
  const found = `HTTP ${status}: ${text()}`;
  return {
    check: 'token',
    state: 'bad',
    found,
    remedy: 'get a token: "atelier token create" on the coordinator',
  };
}

function clock({ date, milliseconds }: Answer): Finding {
  // The header has whole seconds, and the answer was on its way for a while.
  const difference = Math.abs(Date.now() - date);
  const found = `clocks differ by ${Math.round(Math.max(0, difference - milliseconds) / 1000)} s`;
  if (difference <= MAX_CLOCK_DIFFERENCE_MS) return { check: 'clock', state: 'good', found };
  return { check: 'clock', state: 'warning', found, remedy: 'set the clocks (chrony, systemd-timesyncd)' };
}

async function latency(entrance: Entrance, trust: ServerTrust): Promise<Finding> {
  const samples: number[] = [];
  for (let i = 0; i < LATENCY_SAMPLES; i++) samples.push((await get(entrance, trust, 'HEAD')).milliseconds);
  const median = samples.sort((a, b) => a - b)[LATENCY_SAMPLES >> 1] ?? 0;
  const found = `${median.toFixed(1)} ms from connection to answer (median of ${LATENCY_SAMPLES})`;
  if (median <= HIGH_LATENCY_MS) return { check: 'latency', state: 'good', found };
  return {
    check: 'latency',
    state: 'warning',
    found,
    remedy: 'every step waits for this: use larger batches',
  };
}

function bandwidth({ bytes, milliseconds }: Answer): Finding {
  const rate = bytes / (milliseconds / 1000);
  const found = `${(rate / 1024 ** 2).toFixed(0)} MiB/s from the coordinator`;
  if (rate >= LOW_BANDWIDTH_BYTES_PER_SECOND) return { check: 'bandwidth', state: 'good', found };
  const remedy = 'parameters cross at every step: use larger batches or a smaller model';
  return { check: 'bandwidth', state: 'warning', found, remedy };
}

interface Answer {
  readonly status: number;
  /** From the start of the connection to the last byte. */
  readonly milliseconds: number;
  readonly bytes: number;
  /** The coordinator's clock, milliseconds since the epoch. */
  readonly date: number;
  readonly text: () => string;
}

function get(entrance: Entrance, trust: ServerTrust, method = 'GET'): Promise<Answer> {
  const url = new URL(PROBE_PATH, entrance.url.href.replace(/^ws/, 'http'));
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const headers = entrance.token === null ? {} : { authorization: `Bearer ${entrance.token}` };
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const request = send(url, { ...trust, method, headers, agent: false, timeout: ANSWER_TIMEOUT_MS });
    request.once('timeout', () => request.destroy(new Error('no answer in time')));
    request.once('error', reject);
    request.once('response', (response) => {
      const pieces: Buffer[] = [];
      let bytes = 0;
      response.on('data', (piece: Buffer) => {
        bytes += piece.byteLength;
        if (bytes > MAX_ANSWER_BYTES) request.destroy(new Error('the answer is too long: not a coordinator'));
        pieces.push(piece);
      });
      response.once('error', reject);
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          milliseconds: performance.now() - start,
          bytes,
          date: Date.parse(response.headers.date ?? ''),
          text: () => Buffer.concat(pieces).toString('utf8').slice(0, 300),
        }),
      );
    });
    request.end();
  });
}

function line({ check, state, found, remedy }: Finding): string {
  const mark = { good: pc.green('ok  '), warning: pc.yellow('warn'), bad: pc.red('BAD ') }[state];
  return `${mark} ${check.padEnd(10)} ${found}${remedy === undefined || state === 'good' ? '' : `\n     -> ${remedy}`}\n`;
}
