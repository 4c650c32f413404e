import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/**
 * Loads tfjs-node's addon in this (the main) thread too, without using it here. An addon that only worker threads
 * have loaded is unloaded with the last of them, and TensorFlow's own threads then crash the process while it ends.
 */
export function keepNativeLibrary(): void {
  const packageJson = require.resolve('@tensorflow/tfjs-node/package.json');
  const { find } = createRequire(packageJson)('@mapbox/node-pre-gyp') as { find: (path: string) => string };
  require(find(join(dirname(packageJson), 'package.json')));
}
