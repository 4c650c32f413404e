import { AtelierError, type ErrorCode } from '../shared/errors.js';

/** What `tools.mjs` gives to the parts of set-up that are TypeScript. */
export interface SetupTools {
  onExit(cleanup: () => void): () => void;
  step<Result>(title: string, action: (note: (text: string) => void) => Promise<Result>): Promise<Result>;
  say(text: string): void;
  run(
    command: string,
    args: readonly string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv; timeoutMs: number },
  ): Promise<{ code: number; output: string }>;
}

/** Runs an action while no other set-up works on the cache. */
export type Exclusively = <Result>(action: () => Promise<Result>) => Promise<Result>;

/** The lines of a failed attempt's answer that are shown. */
const ANSWER_LINES = 6;

/** Ways that were tried to get something, and what each answered. */
export class Attempts {
  private readonly tried: string[] = [];

  failed(what: string, answer: string): void {
    const lines = answer.trim().split('\n').slice(-ANSWER_LINES);
    this.tried.push(`- ${what}:\n${lines.map((line) => `    ${line}`).join('\n')}`);
  }

  /** The error that tells all of it, and what the user can do. */
  error(code: ErrorCode, what: string, remedy: string): AtelierError {
    return new AtelierError(code, `${what}. Tried:\n${this.tried.join('\n')}\nWhat you can do: ${remedy}`);
  }
}
