import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { writeFileAtomic } from '../coordinator/files.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import { PROJECT_ROOT } from '../shared/version.js';

/** Made by `npm run dashboards` and kept with the sources; a test says whether they are current. */
const DASHBOARDS = join(PROJECT_ROOT, 'deploy', 'grafana', 'dashboards');

export function addDashboardsCommand(program: Command): void {
  program
    .command('dashboards')
    .description('write the Grafana dashboards, to be provisioned or imported')
    .requiredOption(
      '--out <folder>',
      'where they go; it is made if need be, older dashboards in it are replaced',
    )
    .action(({ out }: { out: string }) => {
      for (const path of writeDashboards(out)) process.stdout.write(`${path}\n`);
    });
}

/** @throws AtelierError `usage` when `out` cannot be written to */
function writeDashboards(out: string): string[] {
  const names = readdirSync(DASHBOARDS).filter((name) => name.endsWith('.json'));
  try {
    mkdirSync(out, { recursive: true });
    return names.map((name) => {
      const path = join(out, name);
      writeFileAtomic(path, readFileSync(join(DASHBOARDS, name), 'utf8'));
      return path;
    });
  } catch (cause) {
    throw new AtelierError('usage', `cannot write to --out ${out}: ${messageOf(cause)}`, { cause });
  }
}
