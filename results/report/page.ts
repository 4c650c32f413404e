import { html, Html } from './html.js';
import { STYLE } from './style.js';

/** One headed part of a page. */
export interface Section {
  /** Its anchor: a word. */
  readonly id: string;
  readonly title: string;
  readonly body: Html;
}

export interface Page {
  readonly title: string;
  readonly subtitle: string;
  readonly top: Html;
  readonly sections: readonly Section[];
  readonly footer: string;
}

/** Nothing may be loaded, and nothing runs: pictures are in the file. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/** A whole HTML document that needs nothing but itself. */
export function renderPage({ title, subtitle, top, sections, footer }: Page): string {
  const body = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${POLICY}" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title}</title>
        <link rel="icon" href="data:," />
        ${new Html(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <header>
          <h1>${title}</h1>
          <p class="quiet">${subtitle}</p>
          ${top}
          <nav>${sections.map(({ id, title: name }) => html`<a href="#${id}">${name}</a> `)}</nav>
        </header>
        <main>
          ${sections.map(
            ({ id, title: name, body: content }) =>
              html`<section id="${id}">
                <h2>${name}</h2>
                ${content}
              </section>`,
          )}
        </main>
        <footer class="quiet">${footer}</footer>
      </body>
    </html>`;
  return `${body.text}\n`;
}
