import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

/** The root of the installation, seen from `dist/shared`. */
export const PROJECT_ROOT = fileURLToPath(new URL('../../', import.meta.url));

const packageJson = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')));

export const ATELIER_VERSION = packageJson.version;
