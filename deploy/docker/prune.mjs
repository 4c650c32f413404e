// What only a build or a debugger needs leaves the image: development packages, TensorFlow's headers and symbols, tests,
// sources, source maps of packages.
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

const root = new URL('../..', import.meta.url).pathname;
const remove = (path) => rmSync(path, { recursive: true, force: true });

// npm would follow links into the cache and remove what it did not put there: packages are removed by name.
const listed = execFileSync('npm', ['query', '.dev:not(.prod)', '--json'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 64e6,
});
for (const { path, dev } of JSON.parse(listed)) if (dev && path.startsWith(root)) remove(path);

const packages = join(root, 'node_modules');
for (const name of readdirSync(packages, { recursive: true, encoding: 'utf8' })) {
  if (name.endsWith('.map') && lstatSync(join(packages, name)).isFile()) remove(join(packages, name));
}

for (const folder of ['test', 'dist/test', 'runs', '.git']) remove(join(root, folder));
const cache = process.env.ATELIER_CACHE_DIR;
if (cache && existsSync(cache)) {
  for (const name of readdirSync(cache, { recursive: true, encoding: 'utf8' })) {
    const path = join(cache, name);
    if (name.endsWith('/include') && existsSync(path) && statSync(path).isDirectory()) remove(path);
    // A quarter of the library is names of functions that nobody links against any more.
    if (/\.so\.\d+$/.test(name) && lstatSync(path).isFile())
      execFileSync('strip', ['--strip-unneeded', path]);
  }
}
