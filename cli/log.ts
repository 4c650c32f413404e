import { Option, type Command } from 'commander';
import type { Logger } from 'pino';
import type { RunObserver } from '../coordinator/run-observer.js';
import { leaseName } from '../shared/lease-name.js';
import type { SessionLog } from '../worker/session.js';

/** From what must be looked at to everything. */
const LEVELS = ['error', 'warn', 'info', 'debug'] as const;
type Level = (typeof LEVELS)[number];

/** The flag of a command that keeps a structured log. */
export interface LogFlags {
  readonly log?: Level;
}

export function addLogOption(command: Command): void {
  command.addOption(
    new Option(
      '--log <level>',
      'structured log on stderr, JSON lines, for people on a terminal; debug: every lease and answer',
    )
      .choices(LEVELS)
      .env('ATELIER_LOG'),
  );
}

/** A structured log on stderr: one JSON object a line, or for people when stderr is a terminal. */
export interface Log {
  readonly level: Level;
  readonly logger: Logger;
  /** Takes in a line that is a JSON record of another process. */
  pass(line: string): void;
}

/** Null unless it was asked for; nothing is loaded then. */
export async function openLog({ log: level }: LogFlags, stream = process.stderr): Promise<Log | null> {
  if (level === undefined) return null;
  const { pino } = await import('pino');
  const fd = stream.fd;
  // Written at once: what a process said before it died is what matters.
  const destination = stream.isTTY
    ? (await import('pino-pretty')).default({
        destination: fd,
        sync: true,
        singleLine: true,
        ignore: 'pid,hostname',
      })
    : pino.destination({ dest: fd, sync: true });
  const logger = pino({ level, timestamp: pino.stdTimeFunctions.isoTime }, destination);
  return { level, logger, pass: (line) => void destination.write(`${line}\n`) };
}

/** What a coordinator logs of a run: with `run`, and where they are known `trial`, `epoch`, `step`, `worker`, `lease`. */
export function runLog({ logger }: Log, run: string): Partial<RunObserver> {
  const log = logger.child({ run });
  const isDebug = log.isLevelEnabled('debug');
  return {
    workerJoined: ({ hello: { name, host, slots }, resumed }) =>
      log.info({ worker: name, host, slots, resumed }, 'worker joined'),
    workerLeft: ({ hello: { name } }, reason) => log.warn({ worker: name, reason }, 'worker left'),
    warned: (source, message) => log.warn({ source }, message),
    started: (workers, slots) => log.info({ workers, slots }, 'training'),
    waiting: (workers, wanted) => log.warn({ workers, wanted }, 'waiting for workers'),
    epochEnded: (trial, record) => log.info({ trial, ...record }, 'epoch ended'),
    trialEnded: (trial, error) => {
      if (error === null) log.info({ trial }, 'trial ended');
      else log.error({ trial, reason: error.message }, 'trial failed');
    },
    checkpointed: (trial, { file, bytes, milliseconds }) =>
      log.info({ trial, file, bytes, milliseconds }, 'checkpoint'),
    ...(isDebug ? stepLog(log) : {}),
  };
}

/** What is said many times a second. */
const stepLog = (log: Logger): Partial<RunObserver> => ({
  evaluating: (trial, split) => log.debug({ trial, split }, 'evaluation opened'),
  stepped: ({ trial, epoch, stepInEpoch, loss, accuracy }, imagesPerSecond, times) =>
    log.debug(
      { trial, epoch: epoch + 1, step: stepInEpoch + 1, loss, accuracy, imagesPerSecond, times },
      'step',
    ),
  leased: ({ hello }, { lease, units, ...place }) =>
    log.debug({ ...place, worker: hello.name, lease, ...units }, 'leased'),
  answered: ({ hello }, { lease, units, ...place }, verdict) =>
    log.debug({ ...place, worker: hello.name, lease, ...units, verdict }, 'answered'),
});

/** What a worker logs: with `worker`, and of what it computes `trial` and `lease`. */
export function workerLog({ logger }: Log, worker: string): SessionLog & { say(text: string): void } {
  const log = logger.child({ worker });
  return {
    say: (text) => log.info(text),
    leased: (lease) => {
      const { trial, round, start, count } = lease;
      log.debug({ trial, round, lease: leaseName(lease), start, count }, 'lease taken');
    },
    answered: (answer) => {
      const { type, trial, round, rows, computeMs } = answer;
      const units =
        answer.type === 'partial'
          ? { start: answer.start, count: answer.count }
          : { start: answer.chunk, count: 1 };
      log.debug({ trial, round, lease: leaseName(answer), ...units, rows, computeMs }, `${type} sent`);
    },
  };
}
