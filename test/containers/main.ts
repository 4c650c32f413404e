/**
 * `npm run containers`: builds the image from deploy/docker/Dockerfile and trains in it: a coordinator and two workers in
 * containers with addresses of their own, as nobody special, on file systems that they cannot change, over TLS and with
 * a token. The weights must be those of a run on this machine. Needs podman with netavark and aardvark-dns, and runc.
 * ATELIER_BUILD_FLAGS adds flags to `podman build`: where npm or pip need settings to reach their registries, the build needs the same
 * (`-v $HOME/.config/pip/pip.conf:/etc/pip.conf:ro`). `-- --no-build` takes the image that is there.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';

const IMAGE = 'localhost/atelier:latest';
const ID = `atelier-${process.pid}`;
const TRAINING = ['--model', 'lenet', '--epochs', '1', '--quiet'];
const WORKERS = 2;
const COORDINATOR = `${ID}-coordinator`;
const STATE = '/var/lib/atelier';
/** What deploy/compose.yaml asks for, as flags. */
const HARDENED = [
  '--read-only',
  ...['--tmpfs', '/tmp:size=2g,mode=1777', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
  ...['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024', '--pids-limit', '1024'],
];

const say = (text: string): boolean => process.stdout.write(`${text}\n`);

function podman(...args: string[]): string {
  return execFileSync('podman', ['--runtime', 'runc', ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 64e6,
  }).trim();
}

const volume = (name: string, path: string, mode = 'rw'): string[] => ['-v', `${ID}-${name}:${path}:${mode}`];

function build(): void {
  const flags = (process.env['ATELIER_BUILD_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '');
  const file = join(PROJECT_ROOT, 'deploy', 'docker', 'Dockerfile');
  const args = ['--runtime', 'runc', 'build', ...flags, '-f', file, '-t', IMAGE, PROJECT_ROOT];
  if (spawnSync('podman', args, { stdio: 'inherit' }).status !== 0) {
    throw new Error(
      'the image cannot be built. Without a registry, test/containers/base-image.sh makes its base',
    );
  }
}

/** Where the container writes and who it is, as it says itself. */
function checkHardening(container: string): void {
  const uid = podman('exec', container, 'id', '-u');
  const write = spawnSync('podman', ['--runtime', 'runc', 'exec', container, 'touch', '/opt/atelier/x']);
  if (uid !== '10001' || write.status === 0) {
    throw new Error(
      `${container} runs as ${uid}, and ${write.status === 0 ? 'can' : 'cannot'} change its image`,
    );
  }
}

function trainInContainers(): string {
  podman('network', 'create', ID);
  const tokens = [...volume('cluster', `${STATE}/cluster`), ...volume('token', `${STATE}/token`)];
  podman(
    'run',
    '--rm',
    '--network',
    'none',
    ...HARDENED,
    ...tokens,
    IMAGE,
    'token',
    'create',
    '--out',
    `${STATE}/token/worker`,
  );
  podman(
    ...['run', '-d', '--name', COORDINATOR, '--network', ID, ...HARDENED],
    ...[...volume('cluster', `${STATE}/cluster`), ...volume('runs', `${STATE}/runs`), IMAGE],
    ...['train', '--listen', '0.0.0.0:7077', '--host-name', COORDINATOR, '--workers', '0'],
    ...['--min-workers', String(WORKERS), '--run-dir', `${STATE}/runs/run`, ...TRAINING],
  );
  const workers = Array.from({ length: WORKERS }, (_, i) => `${ID}-worker${i}`);
  for (const name of workers) {
    podman(
      ...['run', '-d', '--name', name, '--network', ID, ...HARDENED, '-e', 'ATELIER_DATA_DIR=/nonexistent'],
      ...[...volume('token', '/run/atelier', 'ro'), IMAGE, 'worker', '--join', `wss://${COORDINATOR}:7077`],
      ...['--token-file', '/run/atelier/worker', '--slots', '1'],
    );
  }
  for (const name of [COORDINATOR, ...workers]) {
    checkHardening(name);
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    say(`${name}: ${podman('inspect', '--format', format, name)}, user 10001, read-only root`);
  }
  const code = podman('wait', COORDINATOR);
  if (code !== '0') throw new Error(`the coordinator ended with ${code}:\n${podman('logs', COORDINATOR)}`);
  const folder = mkdtempSync(join(tmpdir(), 'atelier-containers-'));
  podman('cp', `${COORDINATOR}:${STATE}/runs/run/summary.json`, join(folder, 'summary.json'));
  return hashIn(folder);
}

function trainHere(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-containers-'));
  const args = [
    join(PROJECT_ROOT, 'dist', 'cli', 'main.js'),
    'train',
    ...TRAINING,
    '--run-dir',
    join(folder, 'run'),
  ];
  execFileSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const hash = hashIn(join(folder, 'run'));
  rmSync(folder, { recursive: true });
  return hash;
}

function hashIn(folder: string): string {
  const text = readFileSync(join(folder, 'summary.json'), 'utf8');
  return (JSON.parse(text) as { weightsSha256: string }).weightsSha256;
}

function cleanUp(): void {
  const quietly = (...args: string[]): unknown => spawnSync('podman', args, { stdio: 'ignore' });
  const names = Array.from({ length: WORKERS }, (_, i) => `${ID}-worker${i}`);
  for (const name of [...names, COORDINATOR]) quietly('rm', '-f', '-v', name);
  for (const name of ['cluster', 'token', 'runs']) quietly('volume', 'rm', `${ID}-${name}`);
  quietly('network', 'rm', ID);
}

if (['podman', 'runc'].some((command) => spawnSync(command, ['--version']).status !== 0)) {
  say('skipped: podman and runc are needed');
} else {
  try {
    if (!process.argv.includes('--no-build')) build();
    say(`image: ${(Number(podman('image', 'inspect', '--format', '{{.Size}}', IMAGE)) / 1e6).toFixed(0)} MB`);
    const inContainers = trainInContainers();
    const here = trainHere();
    say(`containers   ${inContainers}\nthis machine ${here}`);
    say(inContainers === here ? 'the same' : 'NOT the same');
    process.exitCode = inContainers === here ? 0 : 1;
  } finally {
    cleanUp();
  }
}
