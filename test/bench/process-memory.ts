import { readdirSync, readFileSync } from 'node:fs';

const SAMPLE_MS = 50;
const KIB = 1024;

/** What a process and those it has started have at most had in memory, in bytes; each by its own high-water mark. */
export class ProcessMemory {
  private readonly pid: number;
  private readonly peaks = new Map<number, number>();
  private readonly timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.pid = pid;
    this.timer = setInterval(() => this.sample(pid), SAMPLE_MS);
  }

  /** Of the process itself, and of the largest one it has started. */
  stop(): { own: number; largestChild: number } {
    clearInterval(this.timer);
    const children = [...this.peaks].filter(([pid]) => pid !== this.pid).map(([, bytes]) => bytes);
    return { own: this.peaks.get(this.pid) ?? 0, largestChild: Math.max(0, ...children) };
  }

  private sample(pid: number): void {
    try {
      const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      if (kib !== undefined) this.peaks.set(pid, Number(kib) * KIB);
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim();
        for (const child of children.split(' ')) if (child !== '') this.sample(Number(child));
      }
    } catch {
      // It has ended in the meantime.
    }
  }
}
