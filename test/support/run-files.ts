import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Summary } from '../../shared/summary.js';

export const readJson = (...path: string[]): unknown => JSON.parse(readFileSync(join(...path), 'utf8'));

/** `summary.json` of a run directory, checked against its schema. */
export const readSummary = (runDirectory: string): Summary =>
  Summary.parse(readJson(runDirectory, 'summary.json'));

export const readLines = (...path: string[]): Record<string, unknown>[] =>
  readFileSync(join(...path), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
