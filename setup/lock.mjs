// One set-up at a time: in a checkout, and in the cache that checkouts share.
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { onExit, say, SetupError } from './tools.mjs';

/**
 * - waitMs: how long to wait for another owner
 * - refreshMs: how often the owner shows that it lives
 * - staleMs: without a sign of life for this long, the owner is taken for dead
 */
const TIMES = { waitMs: 20 * 60_000, pollMs: 250, refreshMs: 5_000, staleMs: 60_000 };

/**
 * Runs `action` while no other owner has the lock, on this machine or (over a shared home) another. A lock whose
 * owner is dead is taken over.
 * @template Result
 * @param {string} path the file that is the lock
 * @param {() => Promise<Result>} action
 * @param {Partial<typeof TIMES>} [times]
 * @returns {Promise<Result>}
 * @throws SetupError when another owner keeps it for too long
 */
export async function withLock(path, action, times = {}) {
  const { refreshMs, ...waiting } = { ...TIMES, ...times };
  mkdirSync(dirname(path), { recursive: true });
  const token = randomUUID();
  await acquire(path, token, waiting);
  // Ours no more, if this process was stopped for so long that another took it over.
  const ifOurs = (act) => {
    try {
      if (JSON.parse(readFileSync(path, 'utf8')).token === token) act();
    } catch {
      // Gone with the folder it was in: there is nothing to keep or to give back.
    }
  };
  const release = () => ifOurs(() => rmSync(path, { force: true }));
  const forget = onExit(release);
  const refresher = setInterval(() => ifOurs(() => utimesSync(path, new Date(), new Date())), refreshMs);
  try {
    return await action();
  } finally {
    clearInterval(refresher);
    forget();
    release();
  }
}

async function acquire(path, token, { waitMs, pollMs, staleMs }) {
  const deadline = Date.now() + waitMs;
  const mine = JSON.stringify({ pid: process.pid, host: hostname(), token });
  let said = false;
  for (;;) {
    try {
      writeFileSync(path, mine, { flag: 'wx' });
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const owner = readOwner(path, staleMs);
    if (owner === 'gone') continue;
    if (owner === 'dead') {
      takeAway(path, staleMs);
      continue;
    }
    const who = owner === 'unknown' ? 'an unknown process' : `process ${owner.pid} on ${owner.host}`;
    if (Date.now() > deadline) {
      throw new SetupError(
        `another set-up (${who}) has held ${path} for long: wait for it or end it, then try again`,
      );
    }
    if (!said) say(`Waiting for another set-up to finish (${who})`);
    said = true;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** @returns {'gone' | 'dead' | 'unknown' | { pid: number, host: string }} */
function readOwner(path, staleMs) {
  try {
    if (Date.now() - statSync(path).mtimeMs > staleMs) return 'dead';
    const { pid, host } = JSON.parse(readFileSync(path, 'utf8'));
    return host === hostname() && !isAlive(pid) ? 'dead' : { pid, host };
  } catch (error) {
    if (error.code === 'ENOENT') return 'gone';
    // Just made and not written yet, or damaged: its age decides.
    if (error instanceof SyntaxError) return 'unknown';
    throw error;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Moves a dead owner's lock away; only one of several takers gets it. */
function takeAway(path, staleMs) {
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
