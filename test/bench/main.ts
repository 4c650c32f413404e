/** `npm run bench -- NAME`. */
const BENCHMARKS = [
  'step',
  'augmentation',
  'slots-soak',
  'checkpoints',
  'faults',
  'folds',
  'throughput',
  'kernels',
  'scrape',
  'scale',
  'keras',
  'times',
  'relays',
  'trace',
  'cost',
  'attacks',
] as const;

const [name] = process.argv.slice(2);
const known = BENCHMARKS.find((benchmark) => benchmark === name);
if (known === undefined) {
  process.stderr.write(`usage: npm run bench -- ${BENCHMARKS.join(' | ')}\n`);
  process.exitCode = 2;
} else {
  await import(`./${known}.js`);
}
