import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHROMIUM, launchChromium } from '../support/chromium.js';
import { ScriptedCoordinator, someRun } from '../support/scripted-coordinator.js';

const RUN = '20260105T100000Z-lenet';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A page on a coordinator, and all that went wrong in it. */
interface Visit {
  readonly page: Page;
  readonly trouble: string[];
  readonly urls: string[];
}

describe.skipIf(CHROMIUM === undefined)(
  'the live page (skipped without Chromium)',
  { concurrent: true },
  () => {
    let browser: Browser;
    const opened: { close(): Promise<unknown> }[] = [];
    beforeAll(async () => {
      browser = await launchChromium();
    });
    afterAll(async () => {
      await browser.close();
      for (const each of opened) await each.close();
    });

    const coordinator = async (token: string | null = null): Promise<[ScriptedCoordinator, string]> => {
      const scripted = new ScriptedCoordinator(token);
      opened.push(scripted);
      return [scripted, await scripted.open()];
    };
    const visit = async (
      url: string,
      width = 1440,
      colorScheme: 'light' | 'dark' = 'light',
    ): Promise<Visit> => {
      const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
      const trouble: string[] = [];
      const urls: string[] = [];
      page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning') trouble.push(message.text());
      });
      page.on('pageerror', (error) => trouble.push(error.message));
      page.on('request', (request) => urls.push(request.url()));
      await page.goto(url);
      return { page, trouble, urls };
    };
    /** What a canvas looks like. */
    const picture = (page: Page, id: string): Promise<string> =>
      page.evaluate<string>(`document.querySelector('#${id} canvas').toDataURL()`);

    test('draws curves that move with the training, and asks nobody but its coordinator', async () => {
      const [scripted, url] = await coordinator();
      scripted.show(someRun(RUN, 1.2));
      const { page, trouble, urls } = await visit(url);
      await page.getByRole('heading', { name: RUN }).waitFor();
      await page.waitForSelector('#loss canvas');
      for (const chart of ['loss', 'accuracy']) {
        const before = await picture(page, chart);
        scripted.show(someRun(RUN, chart === 'loss' ? 2.5 : 4.5));
        await expect.poll(() => picture(page, chart)).not.toBe(before);
      }
      expect(await page.locator('#trials tbody tr').count()).toBe(5);
      expect(await page.locator('#loss').getAttribute('aria-label')).toContain('Fold 4, epoch 4: training');
      await page.getByText('The curves as a table').click();
      await page.getByRole('group', { name: 'Epochs' }).getByRole('row').nth(20).waitFor();
      await page.getByRole('button', { name: 'Fold 2' }).click();
      await expect.poll(() => page.locator('#epochs tbody tr').count()).toBe(16);
      scripted.show(someRun(RUN, 8));
      await page.getByRole('button', { name: 'summary.json' }).waitFor();
      await page.getByText('this run is over').waitFor();
      expect(new Set(urls.map((address) => new URL(address).origin))).toEqual(new Set([new URL(url).origin]));
      expect(trouble).toEqual([]);
      await page.close();
    });

    test('shows a lost worker as lost until it is back, and says so to screen readers', async () => {
      const [scripted, url] = await coordinator();
      const run = someRun(RUN, 1);
      const [first, second] = run.workers;
      scripted.show(run);
      const { page, trouble } = await visit(url);
      const row = page.getByRole('row', { name: 'local-1' });
      await row.getByText('ready').waitFor();
      const background = (): Promise<string> =>
        page.evaluate<string>(
          "getComputedStyle(document.querySelector('#workers tbody tr:nth-child(2) td')).backgroundColor",
        );
      const healthy = await background();
      scripted.show({ ...run, workers: [first, { ...second, state: 'lost' }] as typeof run.workers });
      await row.getByText('lost').waitFor();
      expect(await background()).not.toBe(healthy);
      await page.getByText('Worker local-1 is lost.').waitFor();
      scripted.show(run);
      await row.getByText('ready').waitFor();
      await page.getByText('Worker local-1 is back.').waitFor();
      expect(trouble).toEqual([]);
      await page.close();
    });

    test('shows a queued run as what it is, then its training, after another with folds', async () => {
      const [scripted, url] = await coordinator();
      const queued = '20260106T100000Z-next';
      scripted.show(someRun(RUN, 1.5));
      scripted.show({ ...someRun(queued, 0.1), status: 'queued', trials: [], workers: [] });
      scripted.log(RUN, {
        time: '2026-01-05T10:00:00.000Z',
        type: 'first-step',
        seconds: 14.346661604000001,
      });
      const { page, trouble } = await visit(url);
      await page.getByRole('heading', { name: RUN }).waitFor();
      await page.getByText('first-step seconds: 14.35').waitFor();
      await page.getByRole('link', { name: queued }).click();
      await page.getByText('It waits for its turn').waitFor();
      for (const id of ['#loss', '#trials', '#files', '#numbers', '#chips'])
        expect(await page.locator(id).isVisible()).toBe(false);
      scripted.show({ ...someRun(queued, 0.1), trials: someRun(queued, 0.1).trials.slice(0, 2) });
      await page.getByText('It waits for its turn').waitFor({ state: 'hidden' });
      await expect.poll(() => page.locator('#chips button').count()).toBe(2);
      expect(trouble).toEqual([]);
      await page.close();
    });

    test('goes on after the coordinator was started again, without a line twice', async () => {
      const [scripted, url] = await coordinator();
      scripted.show(someRun(RUN, 1));
      scripted.log(RUN, { time: '2026-01-05T10:00:00.000Z', type: 'started', workers: 2 });
      const { page } = await visit(url);
      await page.getByText('started workers: 2').waitFor();
      await scripted.close();
      await page.getByText('Connection lost').waitFor();
      await scripted.open();
      await page.getByText('Connected').waitFor();
      scripted.show(someRun(RUN, 3.1));
      scripted.log(RUN, { time: '2026-01-05T10:01:00.000Z', type: 'resumed', roundsDone: [3] });
      await page.getByText('resumed roundsDone: [3]').waitFor();
      await page.getByText('38.8 %').waitFor();
      expect(await page.locator('#log li').count()).toBe(2);
      await page.close();
    });

    test('asks for a token, keeps it in the tab, and never has it in an address', async () => {
      const [scripted, url] = await coordinator('a-token-of-the-right-length');
      scripted.show(someRun(RUN, 1));
      const { page, urls } = await visit(url);
      const field = page.getByLabel('Token');
      await field.fill('a-token-that-is-wrong');
      await field.press('Enter');
      await page.getByText('This token is wrong').waitFor();
      await field.fill('a-token-of-the-right-length');
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByRole('heading', { name: RUN }).waitFor();
      await page.reload();
      await page.getByRole('heading', { name: RUN }).waitFor();
      const download = page.waitForEvent('download');
      await page.getByRole('button', { name: 'metrics.jsonl' }).click();
      expect((await download).suggestedFilename()).toBe(`${RUN}-metrics.jsonl`);
      expect(await page.evaluate('localStorage.length + document.cookie.length')).toBe(0);
      expect([...urls, ...scripted.paths].filter((address) => address.includes('a-token'))).toEqual([]);
      await page.getByRole('button', { name: 'Sign out' }).click();
      await field.waitFor();
      expect(await page.evaluate('sessionStorage.length')).toBe(0);
      expect(await page.getByRole('heading', { name: RUN }).isVisible()).toBe(false);
      await page.close();
    });

    test('is accessible and fits, wide and narrow, in light and dark', async () => {
      const [scripted, url] = await coordinator();
      const run = someRun(RUN, 3.4, 10, 4);
      const [first, ...others] = run.workers;
      scripted.show({ ...run, workers: [{ ...first, state: 'lost' }, ...others] as typeof run.workers });
      scripted.show(someRun('20260104T100000Z-cnn', 8));
      scripted.log(RUN, { time: '2026-01-05T10:00:00.000Z', type: 'worker-left', name: 'local-0' });
      const { page, trouble } = await visit(url);
      await page.getByText('worker-left').waitFor();
      await page.getByText('The curves as a table').click();
      await page.locator('#epochs tbody tr').first().waitFor();
      // Evaluated by the debugger: the page's policy would refuse a script.
      await page.evaluate(AXE);
      for (const width of [1440, 390]) {
        await page.setViewportSize({ width, height: 900 });
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme });
          const found = await page.evaluate<{ id: string; nodes: { html: string }[] }[]>(
            'axe.run().then(({ violations }) => violations)',
          );
          expect(found.map(({ id, nodes }) => `${id}: ${nodes[0]?.html ?? ''}`)).toEqual([]);
        }
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
      }
      expect(trouble).toEqual([]);
      await page.close();
    });

    test('can be used with the keyboard alone', async () => {
      const [scripted, url] = await coordinator();
      scripted.show(someRun(RUN, 1.5));
      scripted.show(someRun('20260104T100000Z-cnn', 8));
      const { page } = await visit(url);
      await page.getByRole('heading', { name: RUN }).waitFor();
      const focused = (): Promise<string> =>
        page.evaluate<string>('(document.activeElement.textContent || "").trim()');
      await page.keyboard.press('Tab');
      expect(await focused()).toBe('Skip to the run');
      await page.keyboard.press('Tab');
      await page.keyboard.press('Tab');
      expect(await focused()).toContain('cnn');
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { name: '20260104T100000Z-cnn' }).waitFor();
      await page.keyboard.press('Tab');
      expect(await focused()).toBe('Fold 0');
      await page.keyboard.press('Space');
      expect(await page.getByRole('button', { name: 'Fold 0' }).getAttribute('aria-pressed')).toBe('false');
      await page.close();
    });

    test('stays light with ten runs of ten folds: updates that come at once are drawn at once', async () => {
      const [scripted, url] = await coordinator();
      const names = Array.from({ length: 10 }, (_, index) => `2026010${index}T100000Z-lenet`);
      for (const name of names) scripted.show(someRun(name, 0.1, 10, 16));
      const { page, trouble } = await visit(`${url}#/runs/${names[9] ?? ''}`);
      await page.waitForSelector('#loss canvas');
      await page.evaluate(`{
      window.frames_ = 0;
      const draw = CanvasRenderingContext2D.prototype.clearRect;
      CanvasRenderingContext2D.prototype.clearRect = function (...area) {
        window.frames_ += 1;
        return draw.apply(this, area);
      };
    }`);
      const updates = 400;
      for (let update = 1; update <= updates; update++) {
        for (const name of names) scripted.show(someRun(name, 0.1 + (5 * update) / updates, 10, 16));
      }
      await page.getByText('63.7 %').first().waitFor();
      // Three charts, a few layers each; far from one draw for each update.
      expect(await page.evaluate<number>('window.frames_')).toBeLessThan(updates);
      expect(scripted.followers(names[0] ?? '')).toBe(0);
      expect(scripted.followers(names[9] ?? '')).toBe(1);
      expect(trouble).toEqual([]);
      await page.close();
    });
  },
);
