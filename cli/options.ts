import { readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { parse as parseYaml } from 'yaml';
import type { z } from 'zod';
import { envOf, flagOf, parseRunConfig, RunConfig, TrainingConfig } from '../shared/config.js';
import { AtelierError, messageOf } from '../shared/errors.js';

const FIELDS = Object.entries(RunConfig.shape) as [keyof RunConfig, z.ZodType][];

/**
 * Adds a flag for every setting of a run, or for some; help texts and defaults come from the schema.
 */
export function addRunOptions(command: Command, keys: readonly string[] = FIELDS.map(([key]) => key)): void {
  for (const [key, schema] of FIELDS) {
    if (!keys.includes(key)) continue;
    if (isSwitch(schema)) {
      const off = `--no-${flagOf(key).slice(2)}`;
      command.option(flagOf(key), schema.description ?? '').option(off, `not ${flagOf(key)}`);
      continue;
    }
    const option = new Option(`${flagOf(key)} <value>`, schema.description ?? '');
    const initial = schema.safeParse(undefined);
    if (initial.success && (typeof initial.data === 'string' || typeof initial.data === 'number')) {
      option.description += ` (default: ${initial.data})`;
    }
    command.addOption(option);
  }
  command
    .option('--config <file>', 'YAML or JSON file with settings, named as in config.json')
    .option(
      '--set <key=value>',
      'a setting, named as in config.json (repeatable)',
      (value, all: string[]) => [...all, value],
      [],
    );
}

const isSwitch = (schema: z.ZodType): boolean => schema.safeParse(true).success;

/**
 * A setting given as text becomes what its schema takes: the text itself, a number, null, true, false. What fits none is
 * left for the schema to refuse.
 */
function fromText(text: string, schema: z.ZodType): unknown {
  const numeric = text.trim() !== '' && Number.isFinite(Number(text)) ? [Number(text)] : [];
  const words: unknown[] =
    ({ null: [null], true: [true], false: [false] } as Record<string, unknown[]>)[text] ?? [];
  const candidates = [text, ...numeric, ...words];
  const fitting = candidates.filter((candidate) => schema.safeParse(candidate).success);
  return fitting.length > 0 ? fitting[0] : (numeric[0] ?? text);
}

/**
 * The config of a run: flag > `--set` > environment > config file > default.
 * @param flags commander's options by key
 * @param defaults take the place of the schema's
 * @throws AtelierError `usage`
 */
export function resolveRunConfig(
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
  defaults: Partial<RunConfig> = {},
): RunConfig {
  const values: Record<string, unknown> = {
    ...defaults,
    ...(typeof flags['config'] === 'string' ? readConfigFile(flags['config']) : {}),
  };
  for (const [key, schema] of FIELDS) {
    const fromEnv = env[envOf(key)];
    if (fromEnv !== undefined && fromEnv !== '') values[key] = fromText(fromEnv, schema);
  }
  for (const assignment of (flags['set'] ?? []) as string[]) {
    const [key, ...rest] = assignment.split('=');
    if (key === undefined || rest.length === 0) {
      throw new AtelierError('usage', `--set ${assignment}: expected key=value, such as epochs=3`);
    }
    const schema = FIELDS.find(([name]) => name === key)?.[1];
    values[key] = schema === undefined ? rest.join('=') : fromText(rest.join('='), schema);
  }
  for (const [key, schema] of FIELDS) {
    if (typeof flags[key] === 'string') values[key] = fromText(flags[key], schema);
    else if (typeof flags[key] === 'boolean') values[key] = flags[key];
  }
  return parseRunConfig(values);
}

/**
 * The config of a run that is resumed: what decides the weights stays as it was, where it runs may change.
 * @throws AtelierError `usage` naming the settings that differ
 */
export function resolveResumedConfig(
  saved: RunConfig,
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
): RunConfig {
  const config = resolveRunConfig(flags, env, saved);
  const changed = Object.keys(TrainingConfig.shape)
    .map((key) => key as keyof TrainingConfig)
    .filter((key) => config[key] !== saved[key]);
  if (changed.length === 0) return config;
  const differences = changed.map(
    (key) => `${flagOf(key)} is ${String(saved[key])}, not ${String(config[key])}`,
  );
  throw new AtelierError(
    'usage',
    `a resumed run keeps its config: ${differences.join('; ')}. Leave these out, or start a new run`,
  );
}

function readConfigFile(path: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = parseYaml(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new AtelierError('usage', `--config ${path}: ${messageOf(cause)}`, { cause });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new AtelierError('usage', `--config ${path}: expected settings such as "epochs: 3"`);
  }
  return { ...parsed };
}

/**
 * The cluster's token: `--token-file`, else `ATELIER_TOKEN`, else none. Never a flag of its own: command lines are
 * visible to every user of a machine.
 * @throws AtelierError `usage`
 */
export function readToken(
  tokenFile: string | undefined,
  env: NodeJS.ProcessEnv,
  flag = '--token-file',
): string | null {
  const fromEnv = env['ATELIER_TOKEN'] ?? '';
  if (tokenFile === undefined) return fromEnv === '' ? null : checkToken(fromEnv, 'ATELIER_TOKEN');
  let token: string;
  try {
    token = readFileSync(tokenFile === '-' ? 0 : tokenFile, 'utf8').trim();
  } catch (cause) {
    throw new AtelierError('usage', `${flag} ${tokenFile}: ${messageOf(cause)}`, { cause });
  }
  return checkToken(token, `${flag} ${tokenFile}`);
}

function checkToken(token: string, source: string): string {
  if (/^[\x21-\x7e]{16,512}$/.test(token)) return token;
  throw new AtelierError(
    'usage',
    `${source}: a token is 16 to 512 visible characters, such as "openssl rand -hex 32" prints`,
  );
}
