import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../shared/version.js';

/** Which folders a folder may import from, besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  coordinator: ['shared'],
  worker: ['shared'],
  relay: ['coordinator', 'worker', 'shared'],
  setup: ['shared'],
  results: ['shared'],
  deploy: ['shared'],
  cli: ['coordinator', 'worker', 'relay', 'results', 'shared'],
  test: ['cli', 'coordinator', 'worker', 'relay', 'results', 'shared', 'setup', 'deploy'],
};

const sourcesIn = (folder: string): string[] => {
  const path = join(PROJECT_ROOT, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => join(folder, name));
};

/** The files, seen from the project's root, that a file imports by a relative specifier. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(PROJECT_ROOT, file), 'utf8');
  return ts
    .preProcessFile(text, true, true)
    .importedFiles.map(({ fileName }) => fileName)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => join(dirname(file), specifier).replace(/\.js$/, '.ts'));
}

const graph = new Map(
  Object.keys(MAY_IMPORT)
    .flatMap(sourcesIn)
    .map((file) => [file, importsOf(file)]),
);
const folderOf = (file: string): string => file.split(sep)[0] ?? '';

describe('imports', () => {
  test('are found in the sources', () => {
    expect(graph.get(join('cli', 'train.ts'))).toContain(join('coordinator', 'run.ts'));
  });

  test.each(Object.keys(MAY_IMPORT))('of %s/ stay within the architecture', (folder) => {
    const allowed = new Set([folder, ...(MAY_IMPORT[folder] ?? [])]);
    const breaches = [...graph]
      .filter(([file]) => folderOf(file) === folder)
      .flatMap(([file, imports]) =>
        imports
          .filter((to) => !allowed.has(folderOf(to)) && folderOf(to) !== 'package.json')
          .map((to) => `${file} -> ${to}`),
      );
    expect(breaches).toEqual([]);
  });

  test('name files that are there', () => {
    const missing = [...graph].flatMap(([file, imports]) =>
      imports
        .filter(
          (to) => ![to, to.replace(/\.ts$/, '.d.ts')].some((path) => existsSync(join(PROJECT_ROOT, path))),
        )
        .map((to) => `${file} -> ${to}`),
    );
    expect(missing).toEqual([]);
  });

  test('have no cycle', () => {
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      const at = path.indexOf(file);
      if (at >= 0) cycles.push([...path.slice(at), file].join(' -> '));
      if (at >= 0 || done.has(file)) return;
      for (const to of graph.get(file) ?? []) visit(to, [...path, file]);
      done.add(file);
    };
    for (const file of graph.keys()) visit(file, []);
    expect(cycles).toEqual([]);
  });

  test('of native TensorFlow are in one place outside the tests', () => {
    const users = [...graph.keys()]
      .filter((file) => folderOf(file) !== 'test' && folderOf(file) !== 'setup')
      .filter((file) => {
        const text = readFileSync(join(PROJECT_ROOT, file), 'utf8');
        return ts
          .preProcessFile(text)
          .importedFiles.some(({ fileName }) => fileName === '@tensorflow/tfjs-node');
      });
    expect(users.map((file) => relative('.', file))).toEqual([join('worker', 'tensorflow.ts')]);
  });
});
