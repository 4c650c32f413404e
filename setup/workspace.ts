import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { SetupTools } from './tools.js';

const PREFIX = 'tmp-';
/** A child that was just killed may still be writing its last file. */
const REMOVE = { recursive: true, force: true, maxRetries: 5, retryDelay: 50 } as const;

/**
 * Runs `action` with an empty folder for what is half made, beside what it will become: finishing is one rename.
 * The folder goes afterwards, and so do those that killed set-ups left: call it with the lock held.
 */
export async function inWorkspace<Result>(
  parent: string,
  tools: SetupTools,
  action: (folder: string) => Promise<Result>,
): Promise<Result> {
  mkdirSync(parent, { recursive: true });
  for (const name of readdirSync(parent).filter((entry) => entry.startsWith(PREFIX))) {
    rmSync(join(parent, name), REMOVE);
  }
  const folder = join(parent, `${PREFIX}${process.pid}`);
  const remove = (): void => rmSync(folder, REMOVE);
  const forget = tools.onExit(remove);
  try {
    mkdirSync(folder);
    return await action(folder);
  } finally {
    remove();
    forget();
  }
}
