// What set-up needs before anything is installed or built: progress lines, child processes, clean-up on signals.
// Node's own modules alone.
import { spawn } from 'node:child_process';

/** The end of a child's output that is kept for error messages. */
const OUTPUT_TAIL_CHARS = 4_000;
const REDRAW_MS = 200;
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/** @type {Set<() => void>} */
const cleanups = new Set();

/**
 * Runs `cleanup` when the process ends, by itself or by a signal. Returns what forgets it again.
 * @param {() => void} cleanup synchronous
 */
export function onExit(cleanup) {
  cleanups.add(cleanup);
  return () => cleanups.delete(cleanup);
}

/** Ends children, gives locks back and exits when a signal comes. Call once. */
export function handleSignals() {
  process.on('exit', () => cleanups.forEach((cleanup) => cleanup()));
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
  const draw = () =>
    process.stderr.write(`\r\x1b[K${SPINNER[frame++ % SPINNER.length]} ${title} ${notes} ${seconds()} s`);
  const timer = live ? setInterval(draw, REDRAW_MS) : undefined;
  const finish = (mark) => {
    clearInterval(timer);
    process.stderr.write(`${live ? '\r\x1b[K' : ''}${mark} ${title} (${seconds()} s)\n`);
  };
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
    const child = spawn(command, args, { cwd, env: env ?? process.env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const collect = (chunk) => (output = (output + chunk).slice(-OUTPUT_TAIL_CHARS));
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const forget = onExit(() => child.kill('SIGKILL'));
    const timer = setTimeout(() => {
      collect(`\nno end after ${timeoutMs / 1000} s`);
      child.kill('SIGKILL');
    }, timeoutMs);
    const finish = (code) => {
      clearTimeout(timer);
      forget();
      resolve({ code, output: output.trim() });
    };
    child.once('error', (error) => finish((collect(String(error.message)), 127)));
    child.once('close', (code) => finish(code ?? 1));
  });
}
