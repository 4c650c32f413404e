import { make, setText, setTone } from './dom.js';
import type { Tone } from './state.js';

export interface Column<Row> {
  readonly title: string;
  readonly kind?: 'text' | 'number' | 'badge' | 'progress';
  /** For `progress` a number from 0 to 1. */
  readonly value: (row: Row) => string | number;
}

interface TableOptions<Row> {
  readonly caption: string;
  /** The first is each row's heading. */
  readonly columns: readonly Column<Row>[];
  readonly key: (row: Row) => string;
  readonly tone?: (row: Row) => Tone;
}

/** A table whose rows stay where they are while their figures change. */
export class LiveTable<Row> {
  private readonly options: TableOptions<Row>;
  private readonly body = make('tbody');
  private readonly rows = new Map<string, HTMLTableRowElement>();

  constructor(host: HTMLElement, options: TableOptions<Row>) {
    this.options = options;
    const heads = options.columns.map(({ title, kind }) =>
      make('th', { scope: 'col', class: kind === 'number' ? 'n' : '' }, title),
    );
    const caption = make('caption', { class: 'unseen' }, options.caption);
    host.replaceChildren(make('table', {}, caption, make('thead', {}, make('tr', {}, ...heads)), this.body));
  }

  update(rows: readonly Row[]): void {
    const gone = new Set(this.rows.keys());
    for (const [index, row] of rows.entries()) {
      const key = this.options.key(row);
      gone.delete(key);
      const element = this.rows.get(key) ?? this.add(key);
      if (this.body.children[index] !== element)
        this.body.insertBefore(element, this.body.children[index] ?? null);
      this.fill(element, row);
    }
    for (const key of gone) {
      this.rows.get(key)?.remove();
      this.rows.delete(key);
    }
  }

  private add(key: string): HTMLTableRowElement {
    const cells = this.options.columns.map(({ kind, title }, index) => {
      const cell = index === 0 ? make('th', { scope: 'row' }) : make('td');
      if (kind === 'number') cell.className = 'n';
      if (kind === 'badge') cell.append(make('span', { class: 'badge' }));
      if (kind === 'progress') cell.append(make('progress', { max: '1', 'aria-label': title }));
      return cell;
    });
    const row = make('tr', {}, ...cells);
    this.rows.set(key, row);
    return row;
  }

  private fill(element: HTMLTableRowElement, row: Row): void {
    const { columns, tone } = this.options;
    if (tone !== undefined) setTone(element, tone(row));
    for (const [index, { value }] of columns.entries()) {
      const cell = element.cells[index];
      if (cell === undefined) continue;
      const inner = cell.firstElementChild;
      const now = value(row);
      if (inner instanceof HTMLProgressElement) inner.value = Number(now);
      else setText(inner ?? cell, String(now));
    }
  }
}
