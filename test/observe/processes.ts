import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';

const MAIN = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
/** The end of what a process said, kept for when something goes wrong. */
const MAX_SAID_CHARS = 20_000;

const alive = new Set<ChildProcess>();

/** A running `atelier` command of a check that is no vitest test. */
export class Command {
  readonly child: ChildProcess;
  private said = '';
  private readonly listeners = new Set<() => void>();

  constructor(args: readonly string[]) {
    this.child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.said = (this.said + text).slice(-MAX_SAID_CHARS);
        this.wake();
      });
    }
    alive.add(this.child);
    this.child.once('close', () => {
      alive.delete(this.child);
      this.wake();
    });
  }

  /** The first match of `pattern` in what it says, once it is there. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.said);
      if (found !== null) return found;
      if (this.child.exitCode !== null || this.child.signalCode !== null)
        throw new Error(`ended without saying ${String(pattern)}:\n${this.said}`);
      await new Promise<void>((resolve) => {
        const listener = (): void => {
          this.listeners.delete(listener);
          resolve();
        };
        this.listeners.add(listener);
      });
    }
  }

  /** Ends it at once, as a machine does that loses its power. */
  async kill(): Promise<void> {
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGCONT');
    this.child.kill('SIGKILL');
    await gone;
  }

  private wake(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

/** Ends all that was started. */
export function endAll(): void {
  for (const child of alive) {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
  }
}
