import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { parseHostFile } from '../../cli/hostfile.js';
import { remoteScript } from '../../cli/launch.js';
import { expandNodeList, rankFromEnvironment } from '../../cli/launched-rank.js';
import { lifetime } from '../../cli/token.js';
import { atelierError } from '../support/errors.js';

describe('a host file', () => {
  test('is read as OpenMPI writes it', () => {
    const text =
      '# cluster\nnode1 slots=4\n\nme@node2 slots = 2 max-slots=8 # big\nnode3\nnode1 slots=2\n[fe80::1]\n';
    expect(parseHostFile(text, 'hosts')).toEqual([
      { host: 'node1', slots: 6 },
      { host: 'me@node2', slots: 2 },
      { host: 'node3', slots: null },
      { host: '[fe80::1]', slots: null },
    ]);
  });

  test.each([
    ['-oProxyCommand=evil', /hosts:1: .*not a host/],
    ['a;b', /not a host/],
    ['node slots=0', /from 1 to 256/],
    ['node slots=x', /not known/],
    ['node speed=3', /not known/],
    ['# nothing', /no hosts/],
  ])('%j is refused', (text, message) => {
    expect(atelierError('usage', () => parseHostFile(text, 'hosts')).message).toMatch(message);
  });
});

describe('the rank', () => {
  test.each([
    ['torchrun', { RANK: '1', WORLD_SIZE: '4', MASTER_ADDR: 'a', MASTER_PORT: '29500' }, [1, 4, 'a', 29_500]],
    ['openmpi', { OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '2' }, [0, 2, null, null]],
    [
      'slurm',
      { SLURM_PROCID: '2', SLURM_STEP_NUM_TASKS: '3', SLURM_STEP_NODELIST: 'n[07-09]' },
      [2, 3, 'n07', null],
    ],
  ])('is read from the environment of %s', (launcher, env, [rank, size, coordinatorHost, port]) => {
    expect(rankFromEnvironment(env)).toEqual({ launcher, rank, size, coordinatorHost, port });
  });

  test.each([[{}], [{ RANK: '4', WORLD_SIZE: '4' }], [{ RANK: 'x', WORLD_SIZE: '4' }], [{ RANK: '0' }]])(
    'is not in %j',
    (env) => expect(rankFromEnvironment(env)).toBeNull(),
  );

  test.each([
    ['n1', ['n1']],
    ['gpu[01-03,7],login', ['gpu01', 'gpu02', 'gpu03', 'gpu7', 'login']],
    ['a[9-11]-x', ['a9-x', 'a10-x', 'a11-x']],
  ])('of the nodes %s', (text, nodes) => {
    expect(expandNodeList(text)).toEqual(nodes);
  });

  test('of a range without end is refused', () => {
    atelierError('usage', () => expandNodeList('n[1-999999999]'));
    atelierError('usage', () => expandNodeList('n[5-2]'));
  });
});

describe('what ssh runs', () => {
  const script = remoteScript(
    `sh -c 'trap "echo told to leave; exit 0" TERM; echo "got $ATELIER_TOKEN"; sleep 60 & wait'`,
  );

  test('gives the worker the token and tells it to leave when the line is cut', async () => {
    const shell = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    const output = shell.stdout.setEncoding('utf8');
    const exited = once(shell, 'exit');
    shell.stdin.write('s3cret\n');
    expect(await once(output, 'data')).toEqual(['got s3cret\n']);
    shell.stdin.end();
    expect(await once(output, 'data')).toEqual(['told to leave\n']);
    await exited;
    if (shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL');
  });
});

test.each([
  ['90m', 5_400_000],
  ['12h', 43_200_000],
  ['30d', 2_592_000_000],
  ['never', null],
])('the lifetime %s is read', (text, expected) => {
  expect(lifetime(text)).toBe(expected);
});

test.each(['', '5', '0h', '-1h', '3 h', '1w'])('the lifetime %j is refused', (text) => {
  atelierError('usage', () => lifetime(text));
});
