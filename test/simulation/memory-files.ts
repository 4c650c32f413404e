import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import promises from 'node:fs/promises';
import { webcrypto, createHash } from 'node:crypto';
import { dirname, basename } from 'node:path';

/** Paths below this are in memory. */
export const MEMORY_ROOT = '/simulated';

const inMemory = (path: unknown): path is string => typeof path === 'string' && path.startsWith(MEMORY_ROOT);

function failure(code: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

/** Descriptors of files in memory are above this. */
const FIRST_DESCRIPTOR = 1_000_000;

/**
 * The file system under a simulated coordinator, in memory. The real classes write to it: `node:fs` is patched for paths
 * below `MEMORY_ROOT` while it is in place. Asynchronous calls take simulated time, and those of a process that has
 * died never come back.
 */
export class MemoryFiles {
  private readonly files = new Map<string, Buffer>();
  private readonly folders = new Set<string>();
  private readonly descriptors = new Map<number, string>();
  private nextDescriptor = FIRST_DESCRIPTOR;
  /** Calls back after the time an operation takes. */
  later: (done: () => void) => void = (done) => done();

  list(folder: string): string[] {
    return [...this.files.keys()]
      .filter((path) => dirname(path) === folder)
      .map((path) => basename(path))
      .sort();
  }

  get paths(): readonly string[] {
    return [...this.files.keys()];
  }

  read(path: string): Buffer {
    const bytes = this.files.get(path);
    if (bytes === undefined) throw failure('ENOENT', path);
    return bytes;
  }

  write(path: string, bytes: Uint8Array): void {
    this.requireFolder(path);
    this.files.set(path, Buffer.from(bytes));
  }

  append(path: string, text: string): void {
    this.write(path, Buffer.concat([this.files.get(path) ?? Buffer.alloc(0), Buffer.from(text)]));
  }

  exists(path: string): boolean {
    return this.files.has(path) || this.folders.has(path);
  }

  makeFolder(path: string, recursive: boolean): void {
    if (this.exists(path) && !recursive) throw failure('EEXIST', path);
    for (let folder = path; inMemory(folder); folder = dirname(folder)) this.folders.add(folder);
  }

  remove(path: string): void {
    this.files.delete(path);
  }

  rename(from: string, to: string): void {
    this.write(to, this.read(from));
    this.files.delete(from);
  }

  open(path: string, flags: string): number {
    if (flags === 'wx' && this.files.has(path)) throw failure('EEXIST', path);
    if (flags.startsWith('w')) this.write(path, Buffer.alloc(0));
    else if (!this.exists(path)) throw failure('ENOENT', path);
    this.descriptors.set(this.nextDescriptor, path);
    return this.nextDescriptor++;
  }

  writeAt(descriptor: number, bytes: Uint8Array, position: number): void {
    const path = this.pathOf(descriptor);
    const before = this.read(path);
    const after = Buffer.alloc(Math.max(before.byteLength, position + bytes.byteLength));
    before.copy(after);
    after.set(bytes, position);
    this.files.set(path, after);
  }

  truncate(descriptor: number, length: number): void {
    const path = this.pathOf(descriptor);
    this.files.set(path, Buffer.from(this.read(path).subarray(0, length)));
  }

  close(descriptor: number): void {
    this.descriptors.delete(descriptor);
  }

  pathOf(descriptor: number): string {
    const path = this.descriptors.get(descriptor);
    if (path === undefined) throw failure('EBADF', String(descriptor));
    return path;
  }

  private requireFolder(path: string): void {
    if (!this.folders.has(dirname(path))) throw failure('ENOENT', path);
  }
}

/** Whose files are seen below `MEMORY_ROOT`. */
let current = new MemoryFiles();

export function useFiles(files: MemoryFiles): void {
  current = files;
}

const eventually = <Value>(action: () => Value): Promise<Value> => {
  const { later } = current;
  return new Promise((resolve, reject) =>
    later(() => {
      try {
        resolve(action());
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    }),
  );
};

type AnyFunction = (...args: never[]) => unknown;

/**
 * Puts the memory's files in place of `node:fs`, and hashes on this thread, so that a simulation has no order but its
 * own. Returns what undoes it.
 */
export function patchNode(): () => void {
  const undo: (() => void)[] = [];
  const replace = <Target extends object>(
    target: Target,
    name: keyof Target & string,
    fake: AnyFunction,
  ): void => {
    const real = target[name] as unknown as (...args: unknown[]) => unknown;
    const ours = (...args: unknown[]): unknown => {
      const [first] = args;
      const mine = inMemory(first) || (typeof first === 'number' && first >= FIRST_DESCRIPTOR);
      return mine ? (fake as (...all: unknown[]) => unknown)(...args) : real.apply(target, args);
    };
    (target as Record<string, unknown>)[name] = ours;
    undo.push(() => ((target as Record<string, unknown>)[name] = real));
  };
  replace(fs, 'appendFileSync', (path: string, text: string) => current.append(path, text));
  replace(fs, 'existsSync', (path: string) => current.exists(path));
  replace(fs, 'mkdirSync', (path: string, options?: { recursive?: boolean }) =>
    current.makeFolder(path, options?.recursive === true),
  );
  replace(fs, 'readFileSync', (path: string, encoding?: BufferEncoding) =>
    encoding === undefined ? current.read(path) : current.read(path).toString(encoding),
  );
  replace(fs, 'readdirSync', (path: string) => {
    if (!current.exists(path)) throw failure('ENOENT', path);
    return current.list(path);
  });
  replace(fs, 'rmSync', (path: string) => current.remove(path));
  replace(fs, 'renameSync', (from: string, to: string) => current.rename(from, to));
  replace(fs, 'openSync', (path: string, flags: string) => current.open(path, flags));
  replace(
    fs,
    'writeSync',
    (file: number, data: Uint8Array | string, offset?: number, length?: number, position?: number) => {
      const bytes = typeof data === 'string' ? Buffer.from(data) : data;
      const part = bytes.subarray(offset ?? 0, length === undefined ? undefined : (offset ?? 0) + length);
      current.writeAt(file, part, position ?? current.read(current.pathOf(file)).byteLength);
      return part.byteLength;
    },
  );
  replace(fs, 'fsyncSync', () => undefined);
  replace(fs, 'closeSync', (file: number) => current.close(file));
  replace(fs, 'fstatSync', (file: number) => ({ size: current.read(current.pathOf(file)).byteLength }));
  replace(fs, 'ftruncateSync', (file: number, length: number) => current.truncate(file, length));
  replace(promises, 'readFile', (path: string) => eventually(() => current.read(path)));
  replace(promises, 'rename', (from: string, to: string) => eventually(() => current.rename(from, to)));
  replace(promises, 'rm', (path: string) => eventually(() => current.remove(path)));
  replace(promises, 'open', (path: string, flags: string) =>
    eventually(() => {
      const file = current.open(path, flags);
      let written = 0;
      return {
        writeFile: (bytes: Uint8Array) =>
          eventually(() => {
            current.writeAt(file, bytes, written);
            written += bytes.byteLength;
          }),
        sync: () => eventually(() => undefined),
        close: () => eventually(() => current.close(file)),
      };
    }),
  );
  const { subtle } = webcrypto;
  Object.defineProperty(subtle, 'digest', {
    configurable: true,
    value: (_name: string, bytes: Uint8Array) =>
      Promise.resolve(new Uint8Array(createHash('sha256').update(bytes).digest()).buffer),
  });
  undo.push(() => Reflect.deleteProperty(subtle, 'digest'));
  syncBuiltinESMExports();
  return () => {
    for (const back of undo) back();
    syncBuiltinESMExports();
  };
}
