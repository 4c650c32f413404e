import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../shared/version.js';

const MAIN = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
/** Between a worker's end and its new start, as a supervisor does. */
const RESTART_MS = 1_000;

const alive = new Set<ChildProcess>();

/** Starts `atelier` with these arguments; what it says goes to `log`. */
export function atelier(args: readonly string[], log: string): ChildProcess {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const file = createWriteStream(log, { flags: 'a' });
  child.stdout.pipe(file, { end: false });
  child.stderr.pipe(file, { end: false });
  alive.add(child);
  child.once('close', () => {
    alive.delete(child);
    file.end();
  });
  return child;
}

export const exitOf = (child: ChildProcess): Promise<number | NodeJS.Signals> =>
  new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal ?? 1)));

/** Ends all that was started. */
export function endAll(): void {
  for (const child of alive) child.kill('SIGKILL');
}

/** A place for a worker: whoever holds it is started again when it ends. */
export class WorkerPlace {
  private readonly name: string;
  private readonly url: string;
  private readonly log: string;
  private child: ChildProcess | undefined;
  private isOpen = true;
  /** Its worker is stopped at the moment. */
  isStopped = false;
  /** Exit codes that nobody asked for. */
  readonly oddExits: number[] = [];

  /** @param isGuest it is not started again */
  constructor(name: string, url: string, log: string, isGuest = false) {
    this.name = name;
    this.url = url;
    this.log = log;
    void this.keep(isGuest);
  }

  private async keep(isGuest: boolean): Promise<void> {
    while (this.isOpen) {
      this.child = atelier(['worker', '--join', this.url, '--name', this.name, '--slots', '1'], this.log);
      const exit = await exitOf(this.child);
      if (typeof exit === 'number' && exit !== 0) this.oddExits.push(exit);
      this.child = undefined;
      this.isStopped = false;
      if (isGuest) this.isOpen = false;
      else await wait(RESTART_MS);
    }
  }

  get isHeld(): boolean {
    return this.child !== undefined;
  }

  signal(name: NodeJS.Signals): void {
    this.child?.kill(name);
  }

  /** SIGSTOP, and SIGCONT later. */
  pause(forMs: number): void {
    const { child } = this;
    if (child === undefined) return;
    this.isStopped = true;
    child.kill('SIGSTOP');
    setTimeout(() => {
      this.isStopped = false;
      child.kill('SIGCONT');
    }, forMs).unref();
  }

  close(): void {
    this.isOpen = false;
    this.child?.kill('SIGKILL');
  }
}
