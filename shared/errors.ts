/** The exit codes of the `atelier` command (a contract: scripts branch on them). */
export const ExitCode = {
  done: 0,
  usage: 2,
  runFailed: 3,
  stopped: 4,
  refused: 5,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/**
 * What went wrong, as a stable word that programs may branch on.
 *
 * - `usage`: a flag, config value or path is wrong; the message says which and what would be right.
 * - `data`: a dataset file is missing, truncated or altered.
 * - `model`: a topology is not one, or does not fit the dataset.
 * - `run-failed`: training could not go on (a worker died, the loss is not finite, the disk is full).
 * - `stopped`: the user asked the run to stop.
 * - `refused`: the other side refused us, or we it (token, version, fingerprint).
 * - `protocol`: the other side sent something that is not the protocol.
 */
export type ErrorCode = 'usage' | 'data' | 'model' | 'run-failed' | 'stopped' | 'refused' | 'protocol';

const EXIT_CODES: Record<ErrorCode, ExitCode> = {
  usage: ExitCode.usage,
  data: ExitCode.usage,
  model: ExitCode.usage,
  'run-failed': ExitCode.runFailed,
  stopped: ExitCode.stopped,
  refused: ExitCode.refused,
  protocol: ExitCode.runFailed,
};

/**
 * An operating error: something outside the program is not as it must be. The message is written for
 * the person at the terminal and says what to do. Broken invariants use `assert` instead and are bugs.
 */
export class AtelierError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'AtelierError';
    this.code = code;
  }

  get exitCode(): ExitCode {
    return EXIT_CODES[this.code];
  }
}

/** Stops the program when an invariant of ours is broken. Never used for input. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`broken invariant: ${message}`);
}

/** The default branch of an exhaustive `switch`. */
export function assertNever(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
