import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SetupTools } from '../../setup/tools.js';
import { PROJECT_ROOT } from '../../shared/version.js';

const TOOLS_MODULE = pathToFileURL(join(PROJECT_ROOT, 'setup', 'tools.mjs')).href;
/** Longer than any test: what runs so long was not ended. */
const ENDLESS_MS = 600_000;

/** Plain JavaScript, because it works before anything is built. */
const tools = (await import(TOOLS_MODULE)) as SetupTools;

/** Runs a script with the tools in a process of its own, and reads all it prints on both outputs. */
function withTools(script: string): {
  child: ReturnType<typeof spawn>;
  ended: Promise<[string, number | null]>;
} {
  const source = `import * as tools from ${JSON.stringify(TOOLS_MODULE)}; tools.handleSignals(); ${script}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source]);
  onTestFinished(() => void child.kill('SIGKILL'));
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += `out:${text}`));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const ended = once(child, 'close').then(
    ([code]) => [printed, code as number | null] as [string, number | null],
  );
  return { child, ended };
}

/** A shell whose child prints its number and then sleeps: a grandchild, as compilers are. */
const GRANDCHILD = ['-c', "sh -c 'echo pid=$$; exec sleep 600'; true"];

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

const untilGone = (pid: number): Promise<void> =>
  until(() => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  });

const pidIn = (text: string): number => Number(/pid=(\d+)\n/.exec(text)?.[1] ?? 0);

describe('a command that set-up runs', () => {
  test('gives its code and what it printed on both outputs', async () => {
    const result = await tools.run('sh', ['-c', 'echo one; echo two >&2; exit 3'], { timeoutMs: ENDLESS_MS });
    expect(result.code).toBe(3);
    expect(result.output.split('\n').sort()).toEqual(['one', 'two']);
  });

  test('that is not there is an answer too', async () => {
    const result = await tools.run('atelier-no-such-command', [], { timeoutMs: ENDLESS_MS });
    expect(result).toEqual({ code: 127, output: expect.stringContaining('ENOENT') as string });
  });

  test('that dies of a signal says so', async () => {
    const result = await tools.run('sh', ['-c', 'kill -ILL $$'], { timeoutMs: ENDLESS_MS });
    expect(result).toEqual({ code: 1, output: 'ended by SIGILL' });
  });

  test('is ended with its children when its time is over', async () => {
    const result = await tools.run('sh', GRANDCHILD, { timeoutMs: 200 });
    // It would not have come to an end while the grandchild kept the output open.
    expect(result.output).toMatch(/^pid=\d+\n\nno end after 0.2 s\nended by SIGKILL$/);
  });

  test('is ended with its children when set-up is interrupted', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'atelier-tools-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const note = join(folder, 'pid');
    const grandchild = ['-c', `sh -c 'echo pid=$$ > ${note}; exec sleep 600'; true`];
    const { child, ended } = withTools(
      `await tools.run('sh', ${JSON.stringify(grandchild)}, { timeoutMs: ${ENDLESS_MS} });`,
    );
    await until(() => existsSync(note) && pidIn(readFileSync(note, 'utf8')) > 0);
    child.kill('SIGINT');
    expect(await ended).toEqual(['', 130]);
    await untilGone(pidIn(readFileSync(note, 'utf8')));
  });
});

describe('a step', () => {
  test('is one plain line on the error output where there is no terminal', async () => {
    const { ended } = withTools(`await tools.step('Compiling', async (note) => note('half'));`);
    const [printed, code] = await ended;
    expect(printed).toMatch(/^✓ Compiling \(\d+\.\d s\)\n$/);
    expect(code).toBe(0);
  });

  test('that is interrupted says so', async () => {
    const { child, ended } = withTools(
      `await tools.step('Compiling', () => new Promise(() => { setInterval(() => {}, 1e6); tools.say('begun'); }));`,
    );
    if (child.stderr === null) throw new Error('no output to read');
    await once(child.stderr, 'data');
    child.kill('SIGTERM');
    const [printed, code] = await ended;
    expect(printed).toMatch(/✗ Compiling/);
    expect(code).toBe(143);
  });

  test('undoes the last thing first when it is interrupted, and all of it though one fails', async () => {
    const { ended } = withTools(`
      for (const name of ['lock', 'folder', 'child'])
        tools.onExit(() => { tools.say(name); if (name === 'folder') throw new Error('busy'); });
      process.kill(process.pid, 'SIGINT');
      setInterval(() => {}, 1e6);`);
    expect(await ended).toEqual(['child\nfolder\nlock\n', 130]);
  });
});
