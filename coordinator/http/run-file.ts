import { constants, realpathSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { extname, resolve, sep } from 'node:path';
import { HttpProblem } from './errors.js';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.json': 'application/json',
  '.jsonl': 'application/x-ndjson',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
};

export interface RunFile {
  readonly file: FileHandle;
  readonly bytes: number;
  readonly type: string;
}

/**
 * Opens a file of a run directory for reading.
 * @param name path inside the directory; `..`, absolute names and links lead nowhere
 * @throws HttpProblem 404, which does not tell whether there is something outside
 */
export async function openRunFile(directory: string, name: string): Promise<RunFile> {
  const missing = new HttpProblem(404, 'The run directory has no such file.');
  const parts = name.split('/');
  if (/[\0\\]/.test(name) || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw missing;
  let file: FileHandle;
  try {
    const root = realpathSync(directory);
    const path = resolve(root, ...parts);
    // No part of the way is a link: the path is the real one.
    if (!path.startsWith(root + sep) || realpathSync(path) !== path) throw missing;
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    throw missing;
  }
  const { size } = await file.stat();
  if (!(await file.stat()).isFile()) {
    await file.close();
    throw missing;
  }
  return { file, bytes: size, type: TYPES[extname(name)] ?? 'application/octet-stream' };
}
