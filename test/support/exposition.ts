/** One series of a page of metrics. */
export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Reads Prometheus' text format, as far as Atelier writes it. */
export function parseExposition(text: string): Series[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const match = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (match === null) throw new Error(`not a series: ${line}`);
      const [, name = '', labels = '', value = ''] = match;
      const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', text = '']) => [
        key,
        text,
      ]);
      return { name, labels: Object.fromEntries(pairs) as Record<string, string>, value: numberOf(value) };
    });
}

const numberOf = (text: string): number =>
  text === 'Nan' || text === 'NaN' ? NaN : text === '+Inf' ? Infinity : Number(text);

/** The value of the only series with this name and these labels. */
export function valueOf(
  series: readonly Series[],
  name: string,
  labels: Record<string, string> = {},
): number {
  const found = series.filter(
    (one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value),
  );
  if (found.length !== 1) throw new Error(`${found.length} series ${name} ${JSON.stringify(labels)}`);
  return found[0]?.value ?? NaN;
}

/** The sum of all series with this name and these labels. */
export const sumOf = (series: readonly Series[], name: string, labels: Record<string, string> = {}): number =>
  series
    .filter(
      (one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value),
    )
    .reduce((sum, { value }) => sum + value, 0);
