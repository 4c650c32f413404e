/** Colours of the page for what CSS does not reach: canvases. */
export interface Theme {
  readonly ink: string;
  readonly quiet: string;
  readonly line: string;
  readonly page: string;
  readonly busy: string;
  readonly idle: string;
  readonly bad: string;
  readonly warn: string;
  /** Of trials, in turn. */
  readonly series: readonly string[];
}

const SERIES = 10;

/** The custom property that holds the colour of a trial. */
export const seriesVariable = (trial: number): string => `--c${trial % SERIES}`;

export function readTheme(): Theme {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  return {
    ink: colour('--ink'),
    quiet: colour('--quiet'),
    line: colour('--line'),
    page: colour('--page'),
    busy: colour('--busy'),
    idle: colour('--idle'),
    bad: colour('--bad'),
    warn: colour('--warn'),
    series: Array.from({ length: SERIES }, (_, index) => colour(seriesVariable(index))),
  };
}

/** Calls when the reader changes between light and dark. */
export function onThemeChange(listener: () => void): void {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', listener);
}
