const NUMBER = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** What stands where there is nothing to say. */
export const NOTHING = '–';

export const count = (value: number): string => NUMBER.format(value);

export const percent = (ratio: number | null, digits = 1): string =>
  ratio === null ? NOTHING : `${(100 * ratio).toFixed(digits)} %`;

export const loss = (value: number | null): string => (value === null ? NOTHING : value.toFixed(4));

/** `42 s`, `3 min 05 s`, `2 h 10 min`. */
export function duration(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return NOTHING;
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number): string => String(value).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

export const timeOfDay = (time: string | number): string =>
  new Date(time).toLocaleTimeString('en-GB', { hour12: false });
