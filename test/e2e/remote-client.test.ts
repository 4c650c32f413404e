import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Atelier, type Exit } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();

test('a service behind TLS takes runs from whoever has a token of scope admin, and from nobody else', async () => {
  const data = join(folder, 'data');
  writeSmallFashionMnist(data, 200, 50);
  const nothing = join(folder, 'nothing');
  mkdirSync(nothing);
  const state = join(folder, 'cluster');
  const runs = join(folder, 'runs');
  const atelier = (...args: string[]): Promise<Exit> => new Atelier(args).exit;
  const token = (scope: string): string => join(folder, scope);
  const create = async (scope: string): Promise<void> => {
    const args = ['token', 'create', '--scope', scope, '--state-dir', state, '--out', token(scope)];
    expect((await atelier(...args)).code).toBe(0);
  };
  // The first makes the CA.
  await create('admin');
  await Promise.all(['read', 'worker'].map((scope) => create(scope)));
  const door = ['--listen', '127.0.0.1:0', '--tls', '--state-dir', state, '--runs', runs];
  const coordinator = new Atelier(['coordinator', ...door]);
  const [, url = ''] = await coordinator.says(/Coordinator at (wss:\S+),/);
  const as = (scope: string): string[] => ['--coordinator', url, '--token-file', token(scope)];
  const training = ['--model', 'lenet', '--dataset', data, '--validation-rows', '50', '--batch-size', '64'];

  const refused = ['read', 'worker'].map((scope) => atelier('submit', ...training, ...as(scope)));
  expect((await Promise.all(refused)).map(({ code }) => code)).toEqual([5, 5]);
  const submit = async (epochs: number): Promise<string> => {
    const { stdout } = await atelier(
      'submit',
      ...training,
      '--epochs',
      String(epochs),
      '--json',
      ...as('admin'),
    );
    return (JSON.parse(stdout) as { name: string }).name;
  };
  const [first, second] = [await submit(1), await submit(10_000)];
  const worker = new Atelier(['worker', '--join', url, '--token-file', token('worker'), '--slots', '1'], {
    ATELIER_DATA_DIR: nothing,
  });
  const log = await atelier('logs', first, '-f', ...as('read'));
  expect(log).toMatchObject({ code: 0 });
  expect((await atelier('cancel', second, ...as('read'))).code).toBe(5);
  expect((await atelier('cancel', second, ...as('admin'))).code).toBe(0);
  await atelier('logs', second, '-f', ...as('read'));
  const { stdout } = await atelier('status', '--json', ...as('read'));
  const status = JSON.stringify(JSON.parse(stdout));
  expect(status).toContain('"done"');
  expect(status).toContain('"stopped"');

  // Of another cluster: the server is not trusted, and the token not sent.
  const stranger = join(folder, 'stranger');
  writeFileSync(stranger, '');
  const elsewhere = ['--state-dir', join(folder, 'elsewhere'), '--out', stranger];
  await atelier('token', 'create', '--scope', 'admin', ...elsewhere);
  expect((await atelier('status', '--coordinator', url, '--token-file', stranger)).code).toBe(5);
  worker.child.kill('SIGKILL');
  coordinator.child.kill('SIGTERM');
  expect((await coordinator.exit).code).toBe(0);
  // It ends when nobody writes in the runs' folders any more.
  expect(existsSync(join(runs, first, 'report.html'))).toBe(true);
}, 300_000);
