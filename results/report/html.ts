/** Text that is HTML already. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Value = Html | readonly Html[] | string | number;

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => ESCAPES[c] ?? c);

const render = (value: Value): string => {
  if (value instanceof Html) return value.text;
  if (typeof value === 'string' || typeof value === 'number') return escapeHtml(String(value));
  return value.map(({ text }) => text).join('');
};

/** A template whose values are escaped, unless they are `Html` themselves. */
export function html(strings: TemplateStringsArray, ...values: readonly Value[]): Html {
  return new Html(strings.reduce((text, part, i) => text + render(values[i - 1] ?? '') + part));
}

export const EMPTY = new Html('');

/** `85.32 %` */
export const percent = (share: number, digits = 2): string => `${(share * 100).toFixed(digits)} %`;
/** `12,345` */
export const count = (n: number): string => Math.round(n).toLocaleString('en-US');

/** `1 h 05 min`, `3 min 20 s`, `12.3 s` */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, '0');
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${two(whole % 60)} s` : `${seconds.toFixed(1)} s`;
}

/** A table that scrolls by itself when it is wider than the page. Numbers go right. @param head may be empty */
export function table(head: readonly string[], rows: readonly (readonly (string | number | Html)[])[]): Html {
  const cell = (value: string | number | Html): Html => {
    const numeric =
      typeof value === 'number' || (typeof value === 'string' && /^[-+\d][\d.,]*( %| s)?$/.test(value));
    return numeric ? html`<td class="n">${value}</td>` : html`<td>${value}</td>`;
  };
  return html`<div class="scroll">
    <table>
      ${
        head.length === 0
          ? ''
          : html`<thead>
              <tr>
                ${head.map((title) => html`<th>${title}</th>`)}
              </tr>
            </thead>`
      }
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              ${row.map(cell)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
