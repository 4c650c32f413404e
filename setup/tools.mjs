// What set-up needs before anything is installed or built: progress lines, child processes, clean-up on signals.
// Node's own modules alone.
import { spawn } from 'node:child_process';

/** The end of a child's output that is kept for error messages. */
const OUTPUT_TAIL_CHARS = 4_000;
const REDRAW_MS = 200;
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const DEFAULT_COLUMNS = 80;

/** What the user can do something about. */
export class SetupError extends Error {}

/** @type {Set<() => void>} */
const cleanups = new Set();

/**
 * Runs `cleanup` when the process ends, by itself or by a signal; the last asked for runs first. Returns what
 * forgets it again.
 * @param {() => void} cleanup synchronous
 */
export function onExit(cleanup) {
  cleanups.add(cleanup);
  return () => cleanups.delete(cleanup);
}

/** Ends children, removes what is half made, gives locks back and exits when a signal comes. Call once. */
export function handleSignals() {
  process.on('exit', () => {
    for (const cleanup of [...cleanups].reverse()) {
      try {
        cleanup();
      } catch {
        // The others still have their turn; what stays is swept by the next set-up.
      }
    }
  });
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ]) {
    process.on(signal, () => process.exit(128 + Number(number)));
  }
}

/**
 * Shows a long part: a live line on a terminal, else one line when it is done.
 * @template Result
 * @param {string} title
 * @param {(note: (text: string) => void) => Promise<Result>} action `note` adds words to the live line
 * @returns {Promise<Result>}
 */
export async function step(title, action) {
  const live = process.stderr.isTTY && process.env.ATELIER_QUIET !== '1';
  const startedAt = Date.now();
  const seconds = () => ((Date.now() - startedAt) / 1000).toFixed(1);
  let notes = '';
  let frame = 0;
  const draw = () => {
    const parts = [SPINNER[frame++ % SPINNER.length], title, notes, `${seconds()} s`];
    // A line that wraps could not be drawn over.
    const line = parts.filter((part) => part !== '').join(' ');
    process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns ?? DEFAULT_COLUMNS) - 1)}`);
  };
  const timer = live ? setInterval(draw, REDRAW_MS) : undefined;
  const finish = (mark) => {
    clearInterval(timer);
    forget();
    process.stderr.write(`${live ? '\r\x1b[K' : ''}${mark} ${title} (${seconds()} s)\n`);
  };
  const forget = onExit(() => finish('✗'));
  try {
    const result = await action((text) => (notes = text));
    finish('✓');
    return result;
  } catch (error) {
    finish('✗');
    throw error;
  }
}

/** One plain line. */
export function say(text) {
  process.stderr.write(`${text}\n`);
}

/**
 * Runs a command to its end. Never throws: a command that cannot be started has a code and words too.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, timeoutMs: number }} options
 * @returns {Promise<{ code: number, output: string }>} the exit code and the end of what it printed
 */
export function run(command, args, { cwd, env, timeoutMs }) {
  return new Promise((resolve) => {
    // A group of its own, to end it with all its children: make and the compiler are grandchildren of node-gyp.
    const detached = process.platform !== 'win32';
    const child = spawn(command, args, {
      cwd,
      env: env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached,
    });
    let output = '';
    const collect = (chunk) => (output = (output + chunk).slice(-OUTPUT_TAIL_CHARS));
    child.stdout.setEncoding('utf8').on('data', collect);
    child.stderr.setEncoding('utf8').on('data', collect);
    const kill = () => {
      if (child.pid === undefined) return;
      try {
        process.kill(detached ? -child.pid : child.pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    };
    const forget = onExit(kill);
    const timer = setTimeout(() => {
      collect(`\nno end after ${timeoutMs / 1000} s`);
      kill();
    }, timeoutMs);
    const finish = (code) => {
      clearTimeout(timer);
      forget();
      resolve({ code, output: output.trim() });
    };
    child.once('error', (error) => finish((collect(String(error.message)), 127)));
    child.once('close', (code, signal) => {
      if (signal !== null) collect(`\nended by ${signal}`);
      finish(code ?? 1);
    });
  });
}
