import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Atelier } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);

/** Makes a token of the cluster whose secrets are in a folder. */
async function token(cluster: string): Promise<readonly string[]> {
  const file = at(`${cluster}-token`);
  const { code } = await new Atelier(['token', 'create', '--state-dir', at(cluster), '--out', file]).exit;
  expect(code).toBe(0);
  return ['--token-file', file];
}

test('workers of a relay that is replaced in the middle, behind TLS and tokens, end in the same bits', async () => {
  const data = at('data');
  writeSmallFashionMnist(data, 1_000, 250);
  const train = (run: string, ...args: string[]): Atelier =>
    new Atelier([
      ...['train', '--model', 'lenet', '--dataset', data, '--validation-rows', '200', '--epochs', '30'],
      ...['--run-dir', at(run), ...args],
    ]);
  const [above, below] = await Promise.all([token('above'), token('below')]);
  const plain = train('plain', '--workers', '1', '--slots', '2');

  const door = (cluster: string): string[] => ['--tls', '--state-dir', at(cluster)];
  const atelier = train('relayed', '--workers', '0', '--listen', '127.0.0.1:0', ...door('above'));
  const [, coordinator = ''] = await atelier.says(/Coordinator at (wss:\S+)/);
  const relay = (listen: string): Atelier =>
    new Atelier(['relay', '--join', coordinator, ...above, '--listen', listen, ...door('below')]);
  const first = relay('127.0.0.1:0');
  const [, address = ''] = await first.says(/Relay at (wss:\S+) for/);
  const workers = [0, 1].map(() => new Atelier(['worker', '--join', address, ...below, '--slots', '1']));
  await atelier.says(/^Epoch 1\//m);
  first.child.kill('SIGTERM');
  expect(await first.exit).toMatchObject({ code: 0 });
  expect(atelier.child.exitCode).toBeNull();
  const second = relay(new URL(address).host);
  for (const { exit } of [plain, atelier, second, ...workers]) {
    const { code, stderr } = await exit;
    expect({ code, stderr }).toMatchObject({ code: 0 });
  }
  const { weightsSha256, workers: seen } = readSummary(at('relayed'));
  expect(weightsSha256).toBe(readSummary(at('plain')).weightsSha256);
  expect(seen.map(({ name }) => name)).toEqual([
    expect.stringMatching(/^relay-/),
    expect.stringMatching(/^relay-/),
  ]);
});

test('a relay that cannot take part says what to do', async () => {
  const usage = await new Atelier(['relay', '--join', 'http://127.0.0.1:1']).exit;
  expect(usage.code).toBe(2);
  expect(usage.stderr).toContain('expected ws://host:port');
  const open = await new Atelier(['relay', '--join', 'ws://127.0.0.1:1', '--listen', '0.0.0.0:0']).exit;
  expect(open.code).toBe(2);
  expect(open.stderr).toContain('atelier token create');
});
