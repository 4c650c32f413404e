import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  TargetFile,
  SD_FILE_INTERVAL_MS,
  type TargetGroup,
} from '../../coordinator/metrics/service-discovery.js';
import { CoordinatorMetrics } from '../../coordinator/metrics/coordinator-metrics.js';
import { metricRoutes } from '../../coordinator/metrics/metric-routes.js';
import { CoordinatorServer } from '../../coordinator/server.js';
import { SharedSecret } from '../../coordinator/security/authenticator.js';
import { Cluster } from '../../coordinator/cluster.js';
import { serveMetrics, type MetricsServer } from '../../worker/metrics-server.js';
import { WorkerFigures } from '../../worker/worker-figures.js';
import { WorkerMetrics } from '../../worker/worker-metrics.js';
import { Atelier } from '../support/atelier.js';
import { Client, HELLO, startCoordinator } from '../support/coordinator.js';
import { parseExposition, valueOf } from '../support/exposition.js';
import { FakeClock } from '../support/fake-clock.js';
import { hasPrometheus, promtool } from '../support/promtool.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const SECRET = 'a-secret-of-prometheus';
const bearer = (token: string): { headers: Record<string, string> } => ({
  headers: { authorization: `Bearer ${token}` },
});

describe("a coordinator's metrics", () => {
  const start = async (scope: 'read' | 'worker'): Promise<{ url: string; metrics: CoordinatorMetrics }> => {
    const clock = new FakeClock();
    const cluster = new Cluster(clock);
    const versions = { version: '0', node: 'v20', tensorflow: 'tfjs' };
    const metrics = new CoordinatorMetrics({ cluster, clock, runsFolder: folder, versions });
    const server = await CoordinatorServer.listen({
      listen: { host: '127.0.0.1', port: 0 },
      security: { authenticator: new SharedSecret(SECRET, { scopes: [scope] }), tls: null, hostNames: [] },
      ...{
        listener: cluster,
        clock,
        routes: [metricRoutes(metrics, cluster, false)],
        refusals: metrics.logins,
      },
    });
    onTestFinished(async () => {
      metrics.close();
      await server.close();
    });
    return { url: server.url.replace('ws:', 'http:'), metrics };
  };

  test.each(['/metrics', '/sd'])(
    'at %s are for tokens to read alone, and refusals are counted',
    async (path) => {
      const { url, metrics } = await start('read');
      expect((await fetch(url + path)).status).toBe(401);
      expect((await fetch(url + path, bearer('wrong-but-long-enough'))).status).toBe(401);
      expect((await fetch(url + path, bearer(SECRET))).status).toBe(200);
      expect(metrics.logins.of('token')).toBe(2);
    },
  );

  test('are not for workers', async () => {
    const { url, metrics } = await start('worker');
    expect((await fetch(`${url}/metrics`, bearer(SECRET))).status).toBe(403);
    expect(metrics.logins.of('scope')).toBe(1);
  });

  test('count frames that are not the protocol', async () => {
    const coordinator = await startCoordinator(folder);
    const client = await Client.open(coordinator.url);
    client.socket.send('GET / HTTP/1.1');
    await client.closed;
    const other = await Client.join(coordinator.url);
    other.send({ type: 'ready', run: 0, fingerprint: 'a'.repeat(64) });
    other.send({ type: 'need-rows', run: 0 }, new Uint8Array(1));
    await other.closed;
    expect([...coordinator.cluster.traffic.rejected.entries()]).toEqual([
      ['malformed', 1],
      ['unexpected', 1],
    ]);
    expect([...coordinator.cluster.figures().leaves]).toEqual([['bad_frame', 1]]);
  });

  test('of lost workers are bounded, whatever names they take', async () => {
    const coordinator = await startCoordinator(folder);
    const { cluster } = coordinator;
    for (let i = 0; i < 80; i++) {
      const client = await Client.open(coordinator.url);
      client.send({ ...HELLO, name: `evil-${i}` });
      await client.next('welcome');
      client.socket.terminate();
    }
    await expect.poll(() => [...cluster.figures().leaves]).toEqual([['lost', 80]]);
    const { workers } = cluster.figures();
    expect(workers).toHaveLength(64);
    expect(new Set(workers.map(({ state }) => state))).toEqual(new Set(['lost']));
    coordinator.clock.advance(5 * 60_000 + 1);
    expect(cluster.figures().workers).toEqual([]);
  });
});

describe("a worker's own metrics", () => {
  const usage = { slots: 2, busySlots: 1, computeMs: 1_500, rows: 640, tensors: 40, tensorBytes: 5_000 };
  const start = async (token: string | null): Promise<MetricsServer & { url: string }> => {
    const figures = new WorkerFigures(() => usage);
    const metrics = new WorkerMetrics(figures);
    const server = await serveMetrics({
      ...{ host: '127.0.0.1', port: 0, token, tls: null },
      render: () => metrics.render(),
    });
    onTestFinished(() => {
      server.close();
      figures.close();
    });
    return { ...server, url: `http://127.0.0.1:${server.port}/metrics` };
  };

  test('say what its slots do', async () => {
    const { url } = await start(null);
    const text = await (await fetch(url)).text();
    const series = parseExposition(text);
    expect(valueOf(series, 'atelier_pool_slots', { state: 'busy' })).toBe(1);
    expect(valueOf(series, 'atelier_pool_rows_total')).toBe(640);
    expect(valueOf(series, 'atelier_pool_compute_seconds_total')).toBe(1.5);
    expect(valueOf(series, 'atelier_event_loop_lag_seconds', { process: 'worker' })).toBeGreaterThanOrEqual(
      0,
    );
    if (hasPrometheus('promtool')) expect(await promtool(['check', 'metrics'], text)).toBe('');
  });

  test('are for who has the token, where there is one', async () => {
    const { url } = await start(SECRET);
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(url, bearer(`${SECRET}x`))).status).toBe(401);
    expect((await fetch(url, bearer(SECRET))).status).toBe(200);
  });

  test('are not for web pages, and there is nothing else', async () => {
    const { url } = await start(null);
    expect((await fetch(url, { headers: { origin: 'http://evil.example' } })).status).toBe(403);
    expect((await fetch(url.replace('/metrics', '/'))).status).toBe(404);
    expect((await fetch(url, { method: 'POST' })).status).toBe(404);
  });

  test('are not served to the network without a token and TLS', async () => {
    const flags = ['--join', 'ws://127.0.0.1:9', '--slots', '1', '--metrics-listen', '0.0.0.0:0'];
    const { code, stderr } = await new Atelier(['worker', ...flags]).exit;
    expect(code).toBe(2);
    expect(stderr).toContain('--metrics-token-file');
  });

  test('give rates of the time between two reports', () => {
    let now = 0;
    let rows = 0;
    let computeMs = 0;
    const figures = new WorkerFigures(
      () => ({ ...usage, rows, computeMs }),
      () => now,
    );
    onTestFinished(() => figures.close());
    [now, rows, computeMs] = [2_000, 1_000, 3_000];
    expect(figures.report()).toMatchObject({ rows: 1_000, rowsPerSecond: 500, busyRatio: 0.75 });
    now = 4_000;
    expect(figures.report()).toMatchObject({ rows: 1_000, rowsPerSecond: 0, busyRatio: 0 });
  });
});

describe('the file of targets', () => {
  const read = (path: string): TargetGroup[] => JSON.parse(readFileSync(path, 'utf8')) as TargetGroup[];
  const group = (target: string): TargetGroup => ({ targets: [target], labels: {} });

  test('follows the cluster, and is empty when the coordinator has gone', () => {
    const clock = new FakeClock();
    const path = join(folder, 'targets.json');
    let targets = [group('a:1')];
    const file = new TargetFile({ path, clock, targets: () => targets, onTrouble: () => undefined });
    expect(read(path)).toEqual(targets);
    targets = [group('a:1'), group('b:2')];
    clock.advance(SD_FILE_INTERVAL_MS);
    expect(read(path)).toEqual(targets);
    file.close();
    expect(read(path)).toEqual([]);
    clock.advance(SD_FILE_INTERVAL_MS);
    expect(read(path)).toEqual([]);
  });

  test('that cannot be written is complained about once, and tried again', () => {
    const clock = new FakeClock();
    const path = join(folder, 'missing', 'targets.json');
    const troubles: string[] = [];
    const onTrouble = (message: string): number => troubles.push(message);
    const file = new TargetFile({ path, clock, targets: () => [group('a:1')], onTrouble });
    clock.advance(3 * SD_FILE_INTERVAL_MS);
    expect(troubles).toHaveLength(1);
    expect(existsSync(path)).toBe(false);
    file.close();
  });
});
