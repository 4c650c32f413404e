import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT_ROOT } from '../../shared/version.js';

/** A Python with the programs of the other side: `ATELIER_PEERS=/path/to/python`. */
const PYTHON = process.env['ATELIER_PEERS'];

/** Can that Python import the module? Says so once when it cannot. */
export function hasPeer(module: string): boolean {
  try {
    if (PYTHON === undefined) throw new Error('ATELIER_PEERS is not set');
    execFileSync(PYTHON, ['-c', `import importlib.util as u; assert u.find_spec("${module}")`], {
      stdio: 'ignore',
    });
    return true;
  } catch {
    process.stderr.write(`Not checked with Python's ${module}: set ATELIER_PEERS to a python that has it\n`);
    return false;
  }
}

/** Runs a script of test/support/peers; returns what it printed. */
export async function runPeer(script: string, ...args: readonly string[]): Promise<string> {
  const path = join(PROJECT_ROOT, 'test', 'support', 'peers', script);
  const { stdout } = await promisify(execFile)(PYTHON ?? 'python3', [path, ...args]);
  return stdout;
}
