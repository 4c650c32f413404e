import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));

/** A report takes seconds. */
const LONGEST_MS = 60_000;

/** Reports of a service's runs, each made in a process of its own: they take seconds, in which the other runs would stand still. */
export class Reports {
  private readonly env: NodeJS.ProcessEnv;
  private readonly begun = new Set<Promise<void>>();

  constructor(env: NodeJS.ProcessEnv) {
    this.env = env;
  }

  /** @param path of the run's directory; one that cannot be reported on is left as it is */
  write(path: string): void {
    const options = { stdio: 'ignore', env: this.env, timeout: LONGEST_MS } as const;
    const child = spawn(process.execPath, [MAIN, 'report', path], options);
    const over = new Promise<void>((resolve) => {
      child.once('error', () => resolve());
      child.once('exit', () => resolve());
    });
    this.begun.add(over);
    void over.then(() => this.begun.delete(over));
  }

  /** Resolves when those that have begun are there. */
  async ended(): Promise<void> {
    await Promise.all(this.begun);
  }
}
