import { AtelierError, type ErrorCode } from '../../shared/errors.js';

/** What `action` throws, when it is an AtelierError of this code; anything else fails the test. */
export function atelierError(code: ErrorCode, action: () => unknown): AtelierError {
  try {
    action();
  } catch (error) {
    return checked(code, error);
  }
  throw new Error(`expected an AtelierError '${code}', nothing was thrown`);
}

/** The same for a promise. */
export async function atelierRejection(code: ErrorCode, promise: Promise<unknown>): Promise<AtelierError> {
  try {
    await promise;
  } catch (error) {
    return checked(code, error);
  }
  throw new Error(`expected an AtelierError '${code}', nothing was thrown`);
}

function checked(code: ErrorCode, error: unknown): AtelierError {
  if (!(error instanceof AtelierError)) throw error;
  if (error.code !== code) throw new Error(`expected '${code}', got '${error.code}': ${error.message}`);
  return error;
}
