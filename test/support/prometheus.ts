import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { PROJECT_ROOT } from '../../shared/version.js';

const CONFIG = join(PROJECT_ROOT, 'deploy', 'prometheus');
const POLL_MS = 250;
const READY_TIMEOUT_MS = 30_000;

interface Config {
  global: Record<string, string>;
  scrape_configs: {
    job_name: string;
    http_sd_configs?: Record<string, unknown>[];
    authorization?: unknown;
    tls_config?: unknown;
  }[];
}

/** One sample of an answer to a query. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** A real Prometheus with the project's configuration, in a hurry: what it is told to do each 5 s it does each second. */
export class Prometheus {
  private readonly child: ChildProcess;
  readonly url: string;

  private constructor(child: ChildProcess, url: string) {
    this.child = child;
    this.url = url;
  }

  /**
   * @param target `host:port` of a coordinator on loopback
   * @param hurry changes the rules, as text, such as shorter `for:`
   */
  static async start(folder: string, target: string, hurry: (rules: string) => string): Promise<Prometheus> {
    const home = join(folder, 'prometheus');
    mkdirSync(home, { recursive: true });
    cpSync(join(CONFIG, 'rules'), join(home, 'rules'), { recursive: true });
    for (const name of ['alerts.yml', 'recording.yml']) {
      const path = join(home, 'rules', name);
      writeFileSync(path, hurry(readFileSync(path, 'utf8')));
    }
    const config = parse(readFileSync(join(CONFIG, 'prometheus.yml'), 'utf8')) as Config;
    config.global = { scrape_interval: '1s', evaluation_interval: '1s' };
    config.scrape_configs = config.scrape_configs
      .filter(({ job_name }) => job_name === 'atelier')
      .map(({ job_name }) => ({
        job_name,
        http_sd_configs: [{ url: `http://${target}/sd`, refresh_interval: '1s' }],
      }));
    writeFileSync(join(home, 'prometheus.yml'), stringify(config));
    const address = `127.0.0.1:${await freePort()}`;
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(home, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(home, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=error',
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    const prometheus = new Prometheus(child, `http://${address}`);
    try {
      await prometheus.until(async () => (await fetch(`${prometheus.url}/-/ready`)).ok, READY_TIMEOUT_MS);
    } catch (error) {
      await prometheus.stop();
      throw error;
    }
    return prometheus;
  }

  async query(promql: string): Promise<readonly Sample[]> {
    const response = await fetch(`${this.url}/api/v1/query?query=${encodeURIComponent(promql)}`);
    const { status, error, data } = (await response.json()) as {
      status: string;
      error?: string;
      data?: { result: Sample[] };
    };
    if (status !== 'success') throw new Error(`${promql}: ${error ?? status}`);
    return data?.result ?? [];
  }

  /**
   * Those of these queries that Prometheus has no sample for, after it has been given time.
   * @returns what asked and the query
   */
  async withoutData(
    queries: readonly { readonly panel: string; readonly expr: string }[],
  ): Promise<string[]> {
    let missing: string[] = [];
    const ask = async (): Promise<boolean> => {
      const answers = await Promise.all(
        queries.map(async ({ panel, expr }) => ({
          what: `${panel}: ${expr}`,
          samples: (await this.query(expr)).length,
        })),
      );
      missing = answers.filter(({ samples }) => samples === 0).map(({ what }) => what);
      return missing.length === 0;
    };
    await this.until(ask).catch(() => undefined);
    return missing;
  }

  /** The names and labels of alerts that fire. */
  firing(): Promise<readonly Sample[]> {
    return this.query('ALERTS{alertstate="firing"}');
  }

  /** Asks again and again until it is so: Prometheus tells nobody when it has scraped. */
  async until(isSo: () => Promise<boolean>, timeoutMs = READY_TIMEOUT_MS): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const so = await isSo().catch(() => false);
      if (so) return;
      if (Date.now() > deadline) throw new Error('Prometheus did not see it in time');
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGTERM');
    await gone;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
