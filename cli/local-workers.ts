import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
/** The end of a worker's error output that is kept for its obituary. */
const STDERR_TAIL_CHARS = 2_000;
/** How long workers may take to leave before they are killed. */
const EXIT_TIMEOUT_MS = 5_000;

export interface LocalWorkersOptions {
  readonly count: number;
  readonly slots: number;
  readonly url: string;
  readonly token: string | null;
  readonly dataset: string;
  readonly dataDir: string | null;
  /** A worker ended before it was told to. */
  readonly onDeath: (name: string, how: string) => void;
}

/** The worker processes that `atelier train` starts on this machine. They end with it, even when it is killed. */
export class LocalWorkers {
  private readonly children: ChildProcess[];
  private expected = false;
  private readonly obituaries: string[] = [];

  constructor(options: LocalWorkersOptions) {
    this.children = Array.from({ length: options.count }, (_, i) => this.start(`local-${i}`, options));
  }

  /** From now on workers may end. */
  expectExit(): void {
    this.expected = true;
  }

  /**
   * Waits until every worker has ended; kills those that take too long.
   * @returns how those ended that did not end well, with the last they said
   */
  async exited(): Promise<string[]> {
    this.expected = true;
    const alive = this.children.filter((child) => child.exitCode === null && child.signalCode === null);
    const timer = setTimeout(() => alive.forEach((child) => child.kill('SIGKILL')), EXIT_TIMEOUT_MS);
    await Promise.all(alive.map((child) => new Promise((resolve) => child.once('exit', resolve))));
    clearTimeout(timer);
    return this.obituaries;
  }

  private start(name: string, options: LocalWorkersOptions): ChildProcess {
    const { url, slots, dataset, dataDir, token, onDeath } = options;
    const flags = ['--join', url, '--name', name, '--slots', String(slots), '--dataset', dataset];
    if (dataDir !== null) flags.push('--data-dir', dataDir);
    const child = fork(MAIN, ['worker', ...flags], {
      // Its own process group: Ctrl-C reaches us alone, and we tell the workers.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, ...(token === null ? {} : { ATELIER_TOKEN: token }) },
    });
    let tail = '';
    child.stderr
      ?.setEncoding('utf8')
      .on('data', (text: string) => (tail = (tail + text).slice(-STDERR_TAIL_CHARS)));
    child.once('exit', (code, signal) => {
      const how = signal === null ? `ended with exit code ${code ?? '?'}` : `was killed by ${signal}`;
      if (code !== 0)
        this.obituaries.push(`worker ${name} ${how}${tail === '' ? '' : `:\n${tail.trimEnd()}`}`);
      if (!this.expected) onDeath(name, how);
    });
    return child;
  }
}
