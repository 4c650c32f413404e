import { pino } from 'pino';
import { expect, test } from 'vitest';
import { openLog, runLog, type Log } from '../../cli/log.js';
import { observeAll } from '../../coordinator/run-observer.js';

function logTo(level: Log['level']): { log: Log; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  return { log: { level, logger: pino({ level }, { write }), pass: write }, lines };
}

test('a log at info says what happened, and keeps out of what happens many times a second', () => {
  const { log, lines } = logTo('info');
  const observer = observeAll([runLog(log, 'mine')]);
  observer.waiting(1, 2);
  observer.checkpointed(3, { file: 'step-20.ckpt', bytes: 10, milliseconds: 2 });
  expect(lines).toMatchObject([
    { level: 40, run: 'mine', workers: 1, wanted: 2, msg: 'waiting for workers' },
    { level: 30, run: 'mine', trial: 3, file: 'step-20.ckpt', msg: 'checkpoint' },
  ]);
  expect('leased' in observer).toBe(false);
  expect('answered' in observer).toBe(false);
  expect('leased' in observeAll([runLog(logTo('debug').log, 'mine')])).toBe(true);
});

test('there is no log unless it is asked for', async () => {
  expect(await openLog({})).toBeNull();
});
