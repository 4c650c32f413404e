import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { z } from 'zod';
import { AtelierError } from '../shared/errors.js';
import type { SetupTools } from './tools.js';

export interface LockTimes {
  /** How long to wait for another owner. */
  readonly waitMs: number;
  readonly pollMs: number;
  /** How often the owner shows that it lives. */
  readonly refreshMs: number;
  /** Without a sign of life for this long, the owner is taken for dead. */
  readonly staleMs: number;
}

export const LOCK_TIMES: LockTimes = { waitMs: 20 * 60_000, pollMs: 250, refreshMs: 5_000, staleMs: 60_000 };

const Owner = z.object({ pid: z.int(), host: z.string() });
type Owner = z.infer<typeof Owner>;

/**
 * Runs `action` while no other set-up of this user does, on this machine or (over a shared home) another. A lock
 * whose owner is dead is taken over.
 * @throws AtelierError `usage` when another owner keeps it for too long
 */
export async function withLock<Result>(
  path: string,
  tools: SetupTools,
  action: () => Promise<Result>,
  times: LockTimes = LOCK_TIMES,
): Promise<Result> {
  mkdirSync(dirname(path), { recursive: true });
  await acquire(path, tools, times);
  const release = (): void => rmSync(path, { force: true });
  const forget = tools.onExit(release);
  const refresher = setInterval(() => utimesSync(path, new Date(), new Date()), times.refreshMs);
  try {
    return await action();
  } finally {
    clearInterval(refresher);
    forget();
    release();
  }
}

async function acquire(path: string, tools: SetupTools, times: LockTimes): Promise<void> {
  const deadline = Date.now() + times.waitMs;
  let said = false;
  for (;;) {
    try {
      writeFileSync(path, JSON.stringify({ pid: process.pid, host: hostname() } satisfies Owner), {
        flag: 'wx',
      });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const owner = readOwner(path, times.staleMs);
    if (owner === 'gone') continue;
    if (owner === 'dead') {
      takeAway(path, times.staleMs);
      continue;
    }
    const who = `process ${owner.pid} on ${owner.host}`;
    if (Date.now() > deadline) {
      throw new AtelierError(
        'usage',
        `another set-up (${who}) holds ${path} since long: wait for it or end it, then try again`,
      );
    }
    if (!said) tools.say(`Waiting for another set-up to finish (${who})`);
    said = true;
    await new Promise((resolve) => setTimeout(resolve, times.pollMs));
  }
}

function readOwner(path: string, staleMs: number): Owner | 'dead' | 'gone' {
  try {
    if (Date.now() - statSync(path).mtimeMs > staleMs) return 'dead';
    const owner = Owner.safeParse(JSON.parse(readFileSync(path, 'utf8') || '{}'));
    // Just made and not written yet, or damaged: its age decides.
    if (!owner.success) return { pid: 0, host: 'unknown' };
    if (owner.data.host === hostname() && !isAlive(owner.data.pid)) return 'dead';
    return owner.data;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'gone';
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Moves a dead owner's lock away; only one of several takers gets it. */
function takeAway(path: string, staleMs: number): void {
  const aside = `${path}.${process.pid}.dead`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  // Between the look and the rename somebody may have taken over already: then it goes back.
  if (readOwner(aside, staleMs) === 'dead') rmSync(aside, { force: true });
  else renameSync(aside, path);
}
