import { join } from 'node:path';
import { cacheDir } from '../shared/paths.js';
import { provideDataset } from './dataset.js';
import { provideTensorFlow } from './tensorflow.js';
import type { Exclusively, SetupTools } from './tools.js';

interface BootstrapTools extends SetupTools {
  withLock<Result>(path: string, action: () => Promise<Result>): Promise<Result>;
}

/**
 * Provides native TensorFlow and the dataset; quick and silent when both are there.
 * @throws AtelierError `usage` or `data`, telling what was tried
 */
export async function setUp(tools: BootstrapTools, env: NodeJS.ProcessEnv): Promise<void> {
  const exclusively: Exclusively = (action) => tools.withLock(join(cacheDir(env), 'setup.lock'), action);
  await provideTensorFlow(tools, env, exclusively);
  await provideDataset(tools, env, exclusively);
}
