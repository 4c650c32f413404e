import { make, setText, setTone } from './dom.js';
import { toneOf, type RunLine } from './state.js';

const MAX_RUNS = 50;

interface Item {
  readonly item: HTMLLIElement;
  readonly link: HTMLAnchorElement;
  readonly badge: HTMLElement;
  readonly bar: HTMLProgressElement;
}

/** The runs of the coordinator, as links to `#/runs/NAME`. */
export class RunList {
  private readonly items = new Map<string, Item>();

  constructor(private readonly list: HTMLElement) {}

  update(runs: readonly RunLine[], chosen: string | null): void {
    const shown = runs.slice(0, MAX_RUNS);
    const names = new Set(shown.map(({ name }) => name));
    for (const [name, { item }] of this.items) {
      if (names.has(name)) continue;
      item.remove();
      this.items.delete(name);
    }
    for (const [index, run] of shown.entries()) {
      const entry = this.items.get(run.name) ?? this.add(run.name);
      if (this.list.children[index] !== entry.item) {
        this.list.insertBefore(entry.item, this.list.children[index] ?? null);
      }
      setText(entry.badge, run.status);
      setTone(entry.badge, toneOf(run.status));
      entry.bar.value = run.progress;
      if (run.name !== chosen) entry.link.removeAttribute('aria-current');
      else if (!entry.link.hasAttribute('aria-current')) {
        entry.link.setAttribute('aria-current', 'page');
        entry.item.scrollIntoView({ block: 'nearest', inline: 'nearest' });
      }
    }
  }

  private add(name: string): Item {
    const badge = make('span', { class: 'badge' });
    const bar = make('progress', { max: '1', 'aria-label': 'Progress' });
    const title = make('span', { class: 'name', title: name }, name);
    const link = make('a', { href: linkTo(name) }, title, badge, bar);
    const entry = { item: make('li', {}, link), link, badge, bar };
    this.items.set(name, entry);
    return entry;
  }
}

const PREFIX = '#/runs/';

const linkTo = (run: string): string => `${PREFIX}${encodeURIComponent(run)}`;

/** The run that the address names, if it names one. */
export function chosenRun(hash: string): string | null {
  if (!hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(hash.slice(PREFIX.length));
  } catch {
    return null;
  }
}
