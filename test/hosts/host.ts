import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir } from '../../shared/paths.js';
import { PROJECT_ROOT } from '../../shared/version.js';

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8', stdio: 'pipe' });

/** A switch, which hosts are plugged into. */
export class Switch {
  readonly name = `at${process.pid}-sw`;

  constructor() {
    ip('netns', 'add', this.name);
    ip('-n', this.name, 'link', 'add', 'bridge', 'type', 'bridge');
    ip('-n', this.name, 'link', 'set', 'bridge', 'up');
  }

  close(): void {
    ip('netns', 'delete', this.name);
  }
}

/**
 * A host of its own as far as the network goes: a namespace with one address, and a home folder. Commands run in that
 * folder, with `atelier` on the path.
 */
export class Host {
  readonly folder: string;
  private readonly netns: string;
  private readonly cable: string;
  private readonly network: Switch;
  private readonly env: NodeJS.ProcessEnv;
  private readonly children = new Set<ChildProcess>();

  constructor(
    network: Switch,
    { name, address, folder, hasData }: { name: string; address: string; folder: string; hasData: boolean },
  ) {
    this.network = network;
    this.netns = `at${process.pid}-${name}`;
    this.cable = `to-${name}`;
    this.folder = join(folder, name);
    const bin = join(this.folder, 'bin');
    mkdirSync(bin, { recursive: true });
    const main = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
    writeFileSync(join(bin, 'atelier'), `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`, {
      mode: 0o755,
    });
    const settings = Object.entries(process.env).filter(([key]) => !/^(ATELIER|XDG)_/.test(key));
    this.env = {
      ...Object.fromEntries(settings),
      HOME: this.folder,
      PATH: `${bin}:${process.env['PATH'] ?? ''}`,
      ATELIER_CACHE_DIR: cacheDir(process.env),
      ...(hasData ? {} : { ATELIER_DATA_DIR: '/nonexistent' }),
    };
    ip('netns', 'add', this.netns);
    ip('-n', this.netns, 'link', 'set', 'lo', 'up');
    ip(
      '-n',
      network.name,
      'link',
      'add',
      this.cable,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      this.netns,
    );
    ip('-n', network.name, 'link', 'set', this.cable, 'master', 'bridge');
    ip('-n', this.netns, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    ip('-n', this.netns, 'link', 'set', 'eth0', 'up');
    this.link('up');
  }

  /** Pulls the cable out, or plugs it in. */
  link(state: 'up' | 'down'): void {
    ip('-n', this.network.name, 'link', 'set', this.cable, state);
  }

  /** Runs a line in the host's shell; what it says goes to a file of that name. Resolves to its exit code. */
  run(line: string, log: string): Promise<number> {
    const child = spawn(
      'ip',
      ['netns', 'exec', this.netns, 'bash', '-c', `exec >>${log}.log 2>&1; exec ${line}`],
      { cwd: this.folder, env: this.env, stdio: 'ignore' },
    );
    this.children.add(child);
    return new Promise((resolve) =>
      child.once('close', (code) => {
        this.children.delete(child);
        resolve(code ?? -1);
      }),
    );
  }

  async close(): Promise<void> {
    const ended = [...this.children].map((child) => new Promise((resolve) => child.once('close', resolve)));
    for (const child of this.children) child.kill('SIGKILL');
    await Promise.all(ended);
    ip('netns', 'delete', this.netns);
  }
}
