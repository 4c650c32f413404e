import { existsSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { StepLog } from '../../coordinator/step-log.js';
import { atelierError } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);
function write(log: StepLog, ...losses: number[]): void {
  for (const loss of losses) log.add(loss);
  log.flush();
}

describe('a step log', () => {
  test('has the losses to the bit, in their order, as little-endian float64', () => {
    const log = new StepLog(path('order'), 0);
    write(log, 0.1 + 0.2, -0);
    write(log, 5e-324);
    expect([...StepLog.read(path('order'))]).toEqual([0.1 + 0.2, -0, 5e-324]);
    expect(readFileSync(path('order')).readDoubleLE(0)).toBe(0.1 + 0.2);
  });

  test('writes nothing before it is told to', () => {
    const log = new StepLog(path('later'), 0);
    log.add(1);
    expect(existsSync(path('later'))).toBe(false);
  });

  test('is cut off beyond the steps that a resumed trial has done, and goes on from there', () => {
    write(new StepLog(path('resumed'), 0), 1, 2, 3, 4);
    const log = new StepLog(path('resumed'), 2);
    expect(statSync(path('resumed')).size).toBe(16);
    write(log, 30, 40);
    expect([...StepLog.read(path('resumed'))]).toEqual([1, 2, 30, 40]);
  });

  test('of a trial that starts again from its beginning is written over', () => {
    write(new StepLog(path('again'), 0), 1, 2, 3);
    write(new StepLog(path('again'), 0), 9);
    expect([...StepLog.read(path('again'))]).toEqual([9]);
  });

  test('that has fewer steps than its trial is damaged, and says so', () => {
    write(new StepLog(path('short'), 0), 1, 2, 3);
    truncateSync(path('short'), 20);
    const { message } = atelierError('data', () => new StepLog(path('short'), 3));
    expect(message).toContain('has 2 of 3 steps');
    expect([...StepLog.read(path('short'))]).toEqual([1, 2]);
  });

  test('that is missing has no steps; a trial that needs them is told', () => {
    expect([...StepLog.read(path('missing'))]).toEqual([]);
    atelierError('data', () => new StepLog(path('missing'), 1));
  });
});
