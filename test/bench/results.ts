import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { ATELIER_VERSION, PROJECT_ROOT } from '../../shared/version.js';

/** Where and on what a benchmark was taken: the head of every page of results. */
export function circumstances(tensorflow: string): string {
  const [cpu] = cpus();
  const commit = execFileSync('git', ['-C', PROJECT_ROOT, 'rev-parse', '--short', 'HEAD']).toString().trim();
  const dirty =
    execFileSync('git', ['-C', PROJECT_ROOT, 'status', '--porcelain', '-uno']).toString().trim() !== '';
  return [
    `- Date: ${new Date().toISOString()}`,
    `- Atelier ${ATELIER_VERSION}, commit ${commit}${dirty ? ' with changes' : ''}, Node ${process.version}, TensorFlow ${tensorflow}`,
    `- ${cpus().length} cores (${cpu?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, load before: ${(loadavg()[0] ?? 0).toFixed(2)}`,
  ].join('\n');
}

/** Writes a dated page into test/bench/results/ and prints it. */
export function publish(name: string, page: string): void {
  const folder = join(PROJECT_ROOT, 'test', 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${new Date().toISOString().slice(0, 10)}-${name}.md`);
  writeFileSync(path, page);
  process.stdout.write(`${page}\nWritten to ${path}\n`);
}
