import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Atelier } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const TRAIN = [
  'train',
  '--model',
  'lenet',
  '--dataset',
  data,
  '--epochs',
  '1',
  '--workers',
  '2',
  '--validation-rows',
  '400',
];

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly run?: string;
  readonly trial?: number;
  readonly worker?: string;
  readonly step?: number;
  readonly lease?: string;
  readonly verdict?: string;
}

describe('the structured log', () => {
  beforeAll(() => {
    writeSmallFashionMnist(data, 1_000, 250);
  });

  test('follows each lease from the coordinator to its worker and back by one name', async () => {
    const args = ['--shards', '4', '--slots', '1', '--run-dir', join(folder, 'logged'), '--log', 'debug'];
    const { code, stdout, stderr } = await new Atelier([...TRAIN, ...args]).exit;
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('Training on 2 workers');
    const lines = stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as LogLine);
    const said = (msg: string): LogLine[] => lines.filter((line) => line.msg === msg);
    const places = (all: readonly LogLine[]): Set<string> =>
      new Set(all.map(({ worker, lease }) => `${worker ?? ''} ${lease ?? ''}`));

    const answered = said('answered').filter(({ verdict }) => verdict === 'used');
    expect(answered.length).toBeGreaterThan(5);
    const sent = places([...said('partial sent'), ...said('evaluated sent')]);
    const taken = places(said('lease taken'));
    const leased = places(said('leased'));
    for (const place of places(answered)) {
      expect(leased).toContain(place);
      expect(taken).toContain(place);
      expect(sent).toContain(place);
    }
    for (const line of answered) expect(line).toMatchObject({ run: 'logged', trial: 0 });
    expect(said('step').map(({ step }) => step)).toEqual([1, 2, 3]);
    expect(
      said('worker joined')
        .map(({ worker }) => worker)
        .sort(),
    ).toEqual(['local-0', 'local-1']);
    expect(said('epoch ended')).toHaveLength(1);
  });

  test('of a level that there is not is refused', async () => {
    const { code, stderr } = await new Atelier([...TRAIN, '--log', 'loud']).exit;
    expect(code).toBe(2);
    expect(stderr).toContain('--log');
  });
});
