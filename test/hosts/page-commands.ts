import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';

/** The command lines that docs/cluster.md gives for a few machines: on the coordinator's, and on each of the others. */
export interface PageCommands {
  readonly coordinator: readonly string[];
  readonly worker: readonly string[];
  /** Where the page says that the coordinator is. */
  readonly address: string;
}

/** @throws Error when the page has changed its shape */
export function pageCommands(): PageCommands {
  const page = readFileSync(join(PROJECT_ROOT, 'docs', 'cluster.md'), 'utf8');
  const section = page.split(/^## /m).find((text) => text.startsWith('A few machines, by hand'));
  const blocks = [...(section ?? '').matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) =>
    (block ?? '')
      .split('\n')
      .map((line) => line.replace(/ +#.*/, ''))
      .filter((line) => line !== ''),
  );
  const [coordinator, worker] = blocks;
  const address = /--listen ([\d.]+):/.exec(coordinator?.join('\n') ?? '')?.[1];
  if (coordinator === undefined || worker === undefined || address === undefined) {
    throw new Error('docs/cluster.md has no two blocks of commands under "A few machines, by hand"');
  }
  return { coordinator, worker, address };
}
