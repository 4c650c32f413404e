/** Longest label value. */
const MAX_LABEL_CHARS = 64;

/** A peer's text as a label: plain characters and not many of them. */
export const labelOf = (text: string): string =>
  text.replace(/[^A-Za-z0-9._:-]/g, '_').slice(0, MAX_LABEL_CHARS) || '_';

/** The label of each worker: its name, and its number where another has the same name. */
export function workerLabels(
  workers: readonly { readonly number: number; readonly name: string }[],
): string[] {
  const names = workers.map(({ name }) => labelOf(name));
  const seen = new Map<string, number>();
  for (const name of names) seen.set(name, (seen.get(name) ?? 0) + 1);
  return names.map((name, i) => (seen.get(name) === 1 ? name : `${name}#${workers[i]?.number ?? i}`));
}

/** The label of a trial: its fold, or `final` for the only trial and for the final fit. */
export const trialLabel = (fold: number | null): string => (fold === null ? 'final' : String(fold));
