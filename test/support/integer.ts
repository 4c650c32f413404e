import { InvalidArgumentError } from 'commander';

/** A flag's whole number, 0 or more. */
export function integer(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError('A whole number is expected, 0 or more.');
  return value;
}
