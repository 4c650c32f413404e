import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../shared/version.js';
import { Atelier } from '../support/atelier.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const KEPT = join(PROJECT_ROOT, 'deploy', 'grafana', 'dashboards');

describe('atelier dashboards', () => {
  test('writes every dashboard into a folder that need not be there, and again over its own', async () => {
    const out = join(folder, 'grafana', 'dashboards');
    for (let time = 0; time < 2; time++) {
      const { code, stdout } = await new Atelier(['dashboards', '--out', out]).exit;
      expect({ code, lines: stdout.trim().split('\n').length }).toEqual({ code: 0, lines: 4 });
    }
    expect(readdirSync(out).sort()).toEqual(readdirSync(KEPT).sort());
    for (const name of readdirSync(out)) {
      expect(readFileSync(join(out, name), 'utf8') === readFileSync(join(KEPT, name), 'utf8'), name).toBe(
        true,
      );
    }
  });

  test('says what is wrong with a folder that cannot be made', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const { code, stderr } = await new Atelier(['dashboards', '--out', file]).exit;
    expect(code).toBe(2);
    expect(stderr).toContain(`cannot write to --out ${file}`);
  });
});
