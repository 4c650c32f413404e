import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';

/** What was measured at a time. */
export interface Measured {
  readonly rows: number;
  readonly seconds: number;
  /** NaN where it is not said. */
  readonly loss: number;
}

/** A process that measures on demand; see step-contestant.ts and throughput-contestant.ts for what it says. */
export class Contestant {
  readonly name: string;
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: AsyncIterator<string>;
  private readonly reader: Interface;
  readonly rates: number[] = [];

  constructor(name: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.name = name;
    this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr.resume();
    this.reader = createInterface({ input: this.child.stdout });
    this.lines = this.reader[Symbol.asyncIterator]();
  }

  /** @returns the loss of the first batch */
  async ready(): Promise<number> {
    return Number((await this.answer('ready'))[0]);
  }

  /**
   * Measures once and keeps the rate.
   * @param amount seconds or steps, whichever it takes
   */
  async measure(amount: number): Promise<Measured> {
    this.child.stdin.write(`run ${amount}\n`);
    const [rows = Number.NaN, seconds = Number.NaN, loss = Number.NaN] = (await this.answer('result')).map(
      Number,
    );
    this.rates.push(rows / seconds);
    return { rows, seconds, loss };
  }

  get median(): number {
    const sorted = this.rates.toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  }

  async end(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.stdin.end();
    await exited;
    this.reader.close();
  }

  private async answer(word: string): Promise<string[]> {
    for (;;) {
      const next: IteratorResult<string, unknown> = await this.lines.next();
      if (next.done === true) throw new Error(`${this.name} ended without an answer`);
      const [first, ...rest] = next.value.split(' ');
      if (first === word) return rest;
    }
  }
}
