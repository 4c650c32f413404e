import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { PROJECT_ROOT } from '../../shared/version.js';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Those that have not ended. Tests run concurrently, so it is the file's end that ends what they left. */
const started = new Set<ChildProcess>();
afterAll(() => started.forEach((child) => child.kill('SIGKILL')));

/** A running `atelier` command. It is killed when the test file is over. */
export class Atelier {
  readonly child: ChildProcess;
  readonly exit: Promise<Exit>;
  private stdout = '';
  private stderr = '';
  private readonly listeners = new Set<() => void>();

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd = PROJECT_ROOT) {
    this.child = spawn(process.execPath, [join(PROJECT_ROOT, 'dist', 'cli', 'main.js'), ...args], {
      cwd,
      env: { ...withoutSettings(process.env), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.wake();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.wake();
    });
    this.exit = new Promise((resolve) =>
      this.child.once('close', (code, signal) => {
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
        this.wake();
      }),
    );
    started.add(this.child);
    this.child.once('close', () => started.delete(this.child));
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** The first match of `pattern` in what it says on either stream, once it is there. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
      if (found !== null) return found;
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`ended without saying ${String(pattern)}:\n${this.stdout}\n${this.stderr}`);
      }
      await new Promise<void>((resolve) => {
        const listener = (): void => {
          this.listeners.delete(listener);
          resolve();
        };
        this.listeners.add(listener);
      });
    }
  }

  /** Process ids of the local workers it has started. */
  workers(): number[] {
    return execFileSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' })
      .split('\n')
      .map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
      .filter((match) => match !== null && Number(match[2]) === this.pid && match[3]?.includes(' worker '))
      .map((match) => Number(match?.[1]));
  }

  private wake(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

/** Settings of whoever runs the tests must not reach the command, except where its data is. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(
    ([name]) => name === 'ATELIER_CACHE_DIR' || !/^(ATELIER_|VITEST|TF_|NODE_OPTIONS$)/.test(name),
  );
  return Object.fromEntries(kept);
}

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
