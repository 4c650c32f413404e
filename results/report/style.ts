/** The look of a report: one column that becomes a grid, colours by the reader's preference, paper in light. */
export const STYLE = `
:root {
  --page: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --quiet: #5a6472; --line: #d6dbe1;
  --c1: #2563c9; --c2: #c2410c; --c3: #15803d; --c4: #9333ea; --c5: #b45309; --c6: #0e7490; --c7: #be185d; --c8: #4d7c0f;
  --hit: #2563c9; --miss: #c2410c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --panel: #1c2127; --ink: #e7eaee; --quiet: #9aa5b1; --line: #353d47;
    --c1: #6ea8ff; --c2: #ff9b61; --c3: #5fd38a; --c4: #c490ff; --c5: #f2b84b; --c6: #5ccfe6; --c7: #ff7eb6; --c8: #a8d05a;
    --hit: #4c8df0; --miss: #f0763a;
  }
}
@media print {
  :root {
    --page: #ffffff; --panel: #ffffff; --ink: #000000; --quiet: #444444; --line: #bbbbbb;
    --c1: #2563c9; --c2: #c2410c; --c3: #15803d; --c4: #9333ea; --c5: #b45309; --c6: #0e7490; --c7: #be185d; --c8: #4d7c0f;
    --hit: #2563c9; --miss: #c2410c;
  }
  nav { display: none; }
  figure, tr, .tiles > * { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1rem; max-width: 78rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 0.75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 0.25rem; }
.scroll + .charts { margin-top: 1.25rem; }
p { margin: 0.25rem 0 0.75rem; max-width: 48rem; }
section { border-top: 1px solid var(--line); padding: 1.5rem 0; }
.quiet { color: var(--quiet); }
nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; margin: 1rem 0; }
a { color: var(--c1); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.75rem; margin: 1rem 0; padding: 0; }
.numbers div { background: var(--panel); border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.6rem 0.8rem; }
.numbers dt { color: var(--quiet); font-size: 0.85rem; }
.numbers dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers small { display: block; font-size: 0.8rem; font-weight: 400; color: var(--quiet); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.25rem; }
figure { margin: 0; min-width: 0; }
figcaption { color: var(--quiet); font-size: 0.875rem; }
figure h3 { margin-top: 0; }
figure > svg { display: block; width: 100%; max-width: 34rem; height: auto; }
img { image-rendering: pixelated; max-width: 100%; height: auto; display: block; }
.mosaic { margin: 0.25rem 0 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 0.9rem; }
.tiles figure { font-size: 0.85rem; line-height: 1.3; }
.tiles img { width: 100%; max-width: 8rem; margin-bottom: 0.25rem; border-radius: 0.25rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.3rem 0.9rem 0.3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 500; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre, code { font-family: ui-monospace, "DejaVu Sans Mono", Consolas, monospace; font-size: 0.85rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.75rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
code[title] { white-space: nowrap; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; color: var(--c1); }
.note { border-left: 4px solid var(--miss); padding-left: 0.75rem; }
`;
