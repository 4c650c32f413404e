import { AtelierError } from '../shared/errors.js';

/** A machine of a host file. */
export interface HostEntry {
  /** As ssh takes it: a name, an address, an alias of ssh_config, with `user@` or without. */
  readonly host: string;
  /** Compute threads of its worker; null for one a core. */
  readonly slots: number | null;
}

const MAX_HOSTS = 1_024;
const MAX_SLOTS = 256;
/** No leading dash: ssh would take it for an option. */
const HOST_SHAPE = /^(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_:[\]][A-Za-z0-9_.:%[\]-]*$/;

/**
 * Reads a host file as OpenMPI writes it: a host a line, `slots=N` behind it, `#` begins a comment. A host named twice
 * has the slots of both, as in OpenMPI. `max-slots=` is accepted and not used.
 * @throws AtelierError `usage` naming the line
 */
export function parseHostFile(text: string, file: string): HostEntry[] {
  const slots = new Map<string, number | null>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const [host, ...settings] = line.replace(/#.*$/, '').trim().split(/\s+/);
    if (host === undefined || host === '') continue;
    const wrong = (what: string): AtelierError =>
      new AtelierError('usage', `${file}:${index + 1}: ${what}. Expected lines such as "node1 slots=4"`);
    if (!HOST_SHAPE.test(host)) throw wrong(`${JSON.stringify(host)} is not a host`);
    let count: number | null = null;
    for (const setting of settings
      .join(' ')
      .replace(/\s*=\s*/g, '=')
      .split(' ')
      .filter(Boolean)) {
      const match = /^(slots|max[-_]slots)=(\d+)$/.exec(setting);
      if (match === null) throw wrong(`${JSON.stringify(setting)} is not known`);
      if (match[1] !== 'slots') continue;
      count = Number(match[2]);
      if (count < 1 || count > MAX_SLOTS) throw wrong(`slots is from 1 to ${MAX_SLOTS}`);
    }
    const before = slots.get(host);
    slots.set(host, before === undefined || before === null || count === null ? count : before + count);
  }
  if (slots.size === 0)
    throw new AtelierError('usage', `${file}: no hosts. Write one a line, such as "node1 slots=4"`);
  if (slots.size > MAX_HOSTS) throw new AtelierError('usage', `${file}: more than ${MAX_HOSTS} hosts`);
  return [...slots].map(([host, count]) => ({ host, slots: count }));
}
