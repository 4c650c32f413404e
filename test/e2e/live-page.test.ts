import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { Atelier } from '../support/atelier.js';
import { CHROMIUM, launchChromium } from '../support/chromium.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const run = join(folder, 'five-folds');

const coordinatorOf = async (atelier: Atelier): Promise<string> =>
  (await atelier.says(/Coordinator at ws:\/\/(\S+)/))[1] ?? '';
const picture = (page: Page, id: string): Promise<string> =>
  page.evaluate<string>(`document.querySelector('#${id} canvas').toDataURL()`);
const states = (page: Page): Promise<string[]> => page.locator('#workers tbody .badge').allTextContents();

describe.skipIf(CHROMIUM === undefined)(
  'the live page of a real cross-validation (skipped without Chromium)',
  () => {
    test('moves, shows a killed worker until it is back, and goes on with a resumed run', async () => {
      writeSmallFashionMnist(data, 3_000, 250);
      const first = new Atelier([
        ...[
          'kfold',
          '--model',
          'lenet',
          '--dataset',
          data,
          '--epochs',
          '200',
          '--workers',
          '2',
          '--slots',
          '1',
        ],
        ...['--listen', '127.0.0.1:0', '--checkpoint-steps', '20', '--run-dir', run],
      ]);
      const address = await coordinatorOf(first);
      const browser = await launchChromium();
      try {
        const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
        const trouble: string[] = [];
        const hosts = new Set<string>();
        page.on('console', (message) => {
          if (['error', 'warning'].includes(message.type())) trouble.push(message.text());
        });
        page.on('pageerror', (error) => trouble.push(error.message));
        page.on('request', (request) => hosts.add(new URL(request.url()).host));
        await page.goto(`http://${address}/`);
        await page.getByRole('heading', { name: 'five-folds' }).waitFor();
        await page.getByRole('button', { name: 'Fold 4' }).waitFor();
        await expect.poll(() => states(page), { timeout: 30_000 }).toEqual(['ready', 'ready']);
        for (const chart of ['loss', 'timeline', 'accuracy']) {
          const before = await picture(page, chart);
          await expect.poll(() => picture(page, chart), { timeout: 30_000 }).not.toBe(before);
        }

        process.kill(first.workers()[0] ?? 0, 'SIGKILL');
        await expect.poll(async () => (await states(page)).sort()).toEqual(['lost', 'ready']);
        // Red on red: the row and, fuller, the word.
        expect(await page.locator('#workers tr[data-tone="bad"]').count()).toBe(1);
        await expect.poll(() => states(page), { timeout: 30_000 }).toEqual(['ready', 'ready']);
        await page.locator('#log').getByText('worker-restarted').waitFor();
        expect(trouble).toEqual([]);

        first.child.kill('SIGKILL');
        await first.exit;
        await page.getByText('Connection lost').waitFor();
        const second = new Atelier(['train', '--resume', run, '--listen', address]);
        await coordinatorOf(second);
        await page.getByText('Connected: figures come').waitFor();
        await page.locator('#log').getByText('resumed roundsDone').waitFor();
        const before = await picture(page, 'loss');
        await expect.poll(() => picture(page, 'loss'), { timeout: 30_000 }).not.toBe(before);
        second.child.kill('SIGTERM');
        expect((await second.exit).code).toBe(4);

        // The browser itself says that nobody answered while there was no coordinator.
        expect(trouble.filter((text) => !text.includes('net::ERR_'))).toEqual([]);
        expect([...hosts]).toEqual([address]);
      } finally {
        await browser.close();
      }
    });
  },
);
