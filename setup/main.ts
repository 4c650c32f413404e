import { join } from 'node:path';
import { cacheDir } from '../shared/paths.js';
import { provideDataset } from './dataset.js';
import { withLock } from './lock.js';
import { provideTensorFlow } from './tensorflow.js';
import type { SetupTools } from './tools.js';

/**
 * Provides native TensorFlow and the dataset; quick and silent when both are there.
 * @throws AtelierError `usage` or `data`, telling what was tried
 */
export async function setUp(tools: SetupTools, env: NodeJS.ProcessEnv): Promise<void> {
  const exclusively = <Result>(action: () => Promise<Result>): Promise<Result> =>
    withLock(join(cacheDir(env), 'setup.lock'), tools, action);
  await provideTensorFlow(tools, env, exclusively);
  await provideDataset(tools, env, exclusively);
}
