import { defineConfig } from 'vitest/config';

// Tests run as compiled by tsc: the code that is tested is the code that is shipped.
const group = (name, groupOrder, testTimeout) => ({
  extends: true,
  test: {
    name,
    include: [`dist/test/${name}/**/*.test.js`],
    testTimeout,
    hookTimeout: Math.max(60_000, testTimeout),
    sequence: { groupOrder },
  },
});

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    maxConcurrency: 2,
    reporters: ['default', './dist/test/support/count-reporter.js'],
    // As worker/tensorflow-settings.ts has it for one slot.
    env: {
      TF_NUM_INTRAOP_THREADS: '1',
      TF_NUM_INTEROP_THREADS: '1',
      TF_ENABLE_ONEDNN_OPTS: '1',
      TF_CPP_MIN_LOG_LEVEL: '3',
    },
    projects: [
      group('unit', 0, 20_000),
      group('simulation', 1, 120_000),
      group('integration', 2, 60_000),
      group('e2e', 3, 180_000),
    ],
  },
});
