/**
 * `npm run bench -- faults`: how long a killed worker holds up the run, and what a worker at a third of its speed
 * adds to a good one.
 */
import { performance } from 'node:perf_hooks';
import type { Summary } from '../../shared/summary.js';
import { circumstances, publish } from './results.js';
import { BenchWorkers, median, trainHere } from './train-here.js';

const KILLS = 5;
const ROUNDS = 3;
/** The slow worker runs for so long and is stopped for twice as long: often, as a slow machine is slow. */
const RUN_MS = 10;
const KILLED = { model: 'lenet', seed: 7, validationRows: 0, workers: 0, epochs: 1 } as const;
/** 20,000 training rows; the rest is left out by keeping it for validation. */
const SLOWED = { model: 'cnn', shards: 16, seed: 7, validationRows: 40_000, workers: 0, epochs: 1 } as const;

/** Kills one of two workers in mid-epoch. Milliseconds from the kill to the next completed step. */
async function killOne(): Promise<{ recoveryMs: number; stepMs: number; summary: Summary }> {
  const workers = new BenchWorkers();
  const victim = workers.start('victim', 1);
  workers.start('other', 1);
  let killedAt = 0;
  let recoveryMs = 0;
  const summary = await trainHere(
    { ...KILLED, listen: workers.listen, minWorkers: 1 },
    {
      stepped: ({ stepInEpoch }) => {
        if (stepInEpoch === 60) {
          // Between two steps' ends: a random moment of the next one.
          setTimeout(() => {
            killedAt = performance.now();
            victim.kill('SIGKILL');
          }, Math.random() * 20);
        } else if (killedAt > 0 && recoveryMs === 0) recoveryMs = performance.now() - killedAt;
      },
    },
  ).finally(() => workers.kill());
  return { recoveryMs, stepMs: summary.throughput.stepMsP50, summary };
}

/** @param slow add a worker that is stopped two thirds of the time */
async function withStraggler(slow: boolean): Promise<Summary> {
  const workers = new BenchWorkers();
  workers.start('good', 1);
  let timer: NodeJS.Timeout | undefined;
  if (slow) {
    const straggler = workers.start('slow', 1);
    let stopped = false;
    const beat = (): void => {
      stopped = !stopped;
      straggler.kill(stopped ? 'SIGSTOP' : 'SIGCONT');
      timer = setTimeout(beat, stopped ? 2 * RUN_MS : RUN_MS);
    };
    // It may join and compile at full speed; the run begins when both are there.
    timer = setTimeout(beat, 3_000);
  }
  const minWorkers = slow ? 2 : 1;
  return trainHere({ ...SLOWED, listen: workers.listen, minWorkers }).finally(() => {
    clearTimeout(timer);
    workers.kill();
  });
}

const kills = [];
for (let i = 0; i < KILLS; i++) kills.push(await killOne());
const alone: Summary[] = [];
const together: Summary[] = [];
for (let i = 0; i < ROUNDS; i++) {
  alone.push(await withStraggler(false));
  together.push(await withStraggler(true));
}
const rate = (summaries: readonly Summary[]): number =>
  median(summaries.map(({ throughput }) => throughput.imagesPerSecond));
const hashes = (summaries: readonly Summary[]): Set<string> =>
  new Set(summaries.map(({ weightsSha256 }) => weightsSha256));
const oneHash = (summaries: readonly Summary[]): string =>
  hashes(summaries).size === 1 ? 'one' : 'DIFFERENT';
const images = (value: number): string => Math.round(value).toLocaleString('en-US');
const recoveries = kills.map(({ recoveryMs }) => recoveryMs);
publish(
  'faults',
  `# Faults

${circumstances(alone[0]?.workers[0]?.tensorflow ?? '')}
- Batch 256, two workers of one slot.

## lenet: one of two workers killed with SIGKILL in mid-epoch, ${KILLS} times

- From the kill to the next completed step: ${recoveries.map((ms) => ms.toFixed(0)).join(', ')} ms; median ${median(recoveries).toFixed(0)} ms
- A step takes ${median(kills.map(({ stepMs }) => stepMs)).toFixed(1)} ms (median); the connection's end is noticed at once.
- Hashes: ${oneHash(kills.map(({ summary }) => summary))}

## cnn, 16 shards: a worker at a third of its speed

It runs ${RUN_MS} of every ${3 * RUN_MS} ms (SIGSTOP, SIGCONT); ${ROUNDS} rounds, alternating, medians.

| | images/s |
|---|---|
| the good one alone | ${images(rate(alone))} |
| with the slow one | ${images(rate(together))} |
| ratio | ${(rate(together) / rate(alone)).toFixed(2)} |

Hashes: ${oneHash([...alone, ...together])}
`,
);
