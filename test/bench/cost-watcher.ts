/**
 * Who watches in `npm run bench -- cost`, in a process of its own: when its parent says `on` it scrapes once a second, as Prometheus does,
 * and follows the run's event stream, as the live page does, until it says `off`.
 */
const [origin = '', run = ''] = process.argv.slice(2);
const SCRAPE_INTERVAL_MS = 1_000;

let watching: { readonly stop: AbortController; readonly timer: NodeJS.Timeout } | undefined;
const seen = { scrapes: 0, bytes: 0, events: 0 };

async function scrape(): Promise<void> {
  const response = await fetch(`${origin}/metrics`);
  seen.bytes += (await response.text()).length;
  seen.scrapes++;
}

async function follow(signal: AbortSignal): Promise<void> {
  const response = await fetch(`${origin}/api/v1/runs/${run}/stream`, { signal });
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    const text = decoder.decode(chunk as Uint8Array, { stream: true });
    seen.events += text.split('event: ').length - 1;
  }
}

process.on('message', (word) => {
  if (word === 'on') {
    const stop = new AbortController();
    watching = { stop, timer: setInterval(() => void scrape(), SCRAPE_INTERVAL_MS) };
    follow(stop.signal).catch(() => undefined);
  } else if (word === 'off') {
    clearInterval(watching?.timer);
    watching?.stop.abort();
  } else process.send?.(seen);
});
process.on('disconnect', () => process.exit());
