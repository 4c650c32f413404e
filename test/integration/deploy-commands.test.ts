import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { makeProgram } from '../../cli/program.js';
import { PROJECT_ROOT } from '../../shared/version.js';

const read = (...path: string[]): string => readFileSync(join(PROJECT_ROOT, 'deploy', ...path), 'utf8');

/** Parses a command line as `atelier` does; nothing is carried out. */
async function parsed(words: readonly string[]): Promise<string> {
  const program = await makeProgram();
  let ran = '';
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    command.configureOutput({ writeErr: () => undefined });
    if (command.commands.length === 0) command.action(() => void (ran = command.name()));
  }
  await program.parseAsync(words, { from: 'user' });
  return ran;
}

/** Lines of comments and scripts that call `atelier`, with what is continued put together. */
function linesOf(text: string): string[][] {
  const joined = text.replace(/\\\n[# ]*/g, ' ');
  const calls = joined.matchAll(/(?:^[# ]*|[=] ?\/usr\/bin\/node )(?:atelier|\S+cli\/main\.js) ([a-z].*)$/gm);
  return [...calls].map(([, words]) => (words ?? '').split(/[>&|]/)[0]?.trim().split(/\s+/) ?? []);
}

const containersOf = (file: string): { image: string; args?: string[] }[] =>
  parseAllDocuments(read('kubernetes', 'base', file), { merge: true })
    .map((document) => document.toJS() as { spec?: { template?: { spec: { containers: [] } } } })
    .flatMap(({ spec }) => spec?.template?.spec.containers ?? []);

const compose = parse(read('compose.yaml'), { merge: true }) as {
  services: Record<string, { command?: string[]; image: string }>;
};

const commands: [string, string[]][] = [
  ...Object.entries(compose.services)
    .filter(([, { image }]) => image.startsWith('atelier'))
    .flatMap(([name, { command }]): [string, string[]][] => (command === undefined ? [] : [[name, command]])),
  ...['coordinator.yaml', 'workers.yaml'].flatMap((file) =>
    containersOf(file).map(({ args }): [string, string[]] => [file, args ?? []]),
  ),
  ...[
    ['compose.yaml'],
    ['kubernetes', 'base', 'kustomization.yaml'],
    ['systemd', 'atelier-coordinator.service'],
    ['systemd', 'atelier-worker.service'],
  ].flatMap((path) => linesOf(read(...path)).map((words): [string, string[]] => [path.join('/'), words])),
];

test('deploy/ starts the service and workers, and hands runs in', () => {
  const names = commands.map(([, [name]]) => name);
  for (const name of ['coordinator', 'worker', 'token', 'submit']) expect(names).toContain(name);
  expect(commands.length).toBeGreaterThanOrEqual(12);
});

test.each(commands)('%s: our own command line understands %j', async (_where, words) => {
  expect(await parsed(words)).toBe(words[0] === 'token' ? words[1] : words[0]);
});

test('a flag that there is not would be noticed', async () => {
  await expect(parsed(['coordinator', '--no-such-flag'])).rejects.toThrow('unknown option');
});
