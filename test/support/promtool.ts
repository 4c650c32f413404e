import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

/** Is the program of the Debian package `prometheus` here? Says so once when it is not. */
export function hasPrometheus(program: 'prometheus' | 'promtool'): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write(`Not checked with ${program}: it is not installed (apt-get install prometheus)\n`);
    return false;
  }
}

/** What promtool says; rejects with it when it finds fault. */
export async function promtool(args: readonly string[], input = ''): Promise<string> {
  const running = promisify(execFile)('promtool', [...args]);
  running.child.stdin?.end(input);
  const { stdout, stderr } = await running;
  return stdout + stderr;
}
