import { availableParallelism } from 'node:os';
import { AtelierError } from '../shared/errors.js';

export const availableCores = (): number => availableParallelism();

/**
 * A whole number given as a flag.
 * @throws AtelierError `usage`
 */
export function parseCount(flag: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new AtelierError('usage', `${flag} ${text}: expected a whole number from ${min} to ${max}`);
  }
  return value;
}
