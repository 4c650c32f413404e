/** `npm run bench -- relays`: what crosses the coordinator's sockets with no relay, one level of them and two. */
import { once } from 'node:events';
import { circumstances, publish } from './results.js';
import { BenchWorkers, trainHere } from './train-here.js';

const WORKERS = 8;
const SHARDS = 8;
const FAN_OUT = 2;
const BATCH = 256;
const TRAINING_ROWS = 55_000;
const MODELS = { lenet: 61_706, dense: 898_510 } as const;

interface Topology {
  readonly name: string;
  /** Levels of relays, each of which has two above it. */
  readonly levels: number;
}

const TOPOLOGIES: readonly Topology[] = [
  { name: 'none', levels: 0 },
  { name: 'one level: 2 relays of 4 workers', levels: 1 },
  { name: 'two levels: 2 relays of 2 relays of 2 workers', levels: 2 },
];

/** Starts workers in the shape of a tree. */
function startTree(processes: BenchWorkers, above: string, levels: number, workers: number): void {
  if (levels === 0) {
    for (let i = 0; i < workers; i++) processes.start(`worker-${processes.children.length}`, 1, above);
    return;
  }
  for (let i = 0; i < FAN_OUT; i++) {
    const below = levels > 1 ? FAN_OUT : workers / FAN_OUT;
    const relay = processes.startRelay(`relay-${processes.children.length}`, below, above);
    startTree(processes, relay, levels - 1, workers / FAN_OUT);
  }
}

interface Traffic {
  readonly frames: number;
  readonly bytes: number;
}

/** What a coordinator says of one type of message. */
async function trafficOf(listen: string, direction: 'in' | 'out', type: string): Promise<Traffic> {
  const page = await (await fetch(`http://${listen}/metrics`)).text();
  const read = (what: string): number =>
    Number(
      new RegExp(`^atelier_${what}_total\\{direction="${direction}",type="${type}"\\} (\\S+)`, 'm').exec(
        page,
      )?.[1],
    );
  return { frames: read('frames'), bytes: read('bytes') };
}

const rows: string[] = [];
let tensorflow = '';
for (const [model, parameters] of Object.entries(MODELS)) {
  const hashes = new Set<string>();
  let before: number | undefined;
  for (const { name, levels } of TOPOLOGIES) {
    const processes = new BenchWorkers();
    const { listen } = processes;
    startTree(processes, listen, levels, WORKERS);
    // All partials of the epoch have come when it ends; the test that follows sends none.
    let asked: Promise<[Traffic, Traffic]> | undefined;
    const epochEnded = (): void => {
      asked = Promise.all([trafficOf(listen, 'in', 'partial'), trafficOf(listen, 'out', 'round')]);
    };
    const summary = await trainHere(
      {
        ...{ model, listen, epochs: 1, seed: 7, batchSize: BATCH, shards: SHARDS, workers: 0 },
        sharedMemory: false,
        minWorkers: levels === 0 ? WORKERS : FAN_OUT,
      },
      { epochEnded },
    );
    for (const child of processes.children) if (child.exitCode === null) await once(child, 'exit');
    if (asked === undefined) throw new Error('an epoch ended');
    const [partials, rounds] = await asked;
    hashes.add(summary.weightsSha256);
    tensorflow = summary.workers[0]?.tensorflow ?? tensorflow;
    const steps = Math.ceil(TRAINING_ROWS / BATCH);
    const children = levels === 0 ? WORKERS : FAN_OUT;
    const computed = steps * children * parameters * Float32Array.BYTES_PER_ELEMENT;
    before ??= partials.bytes;
    const mb = (bytes: number): string => (bytes / 1e6).toFixed(1);
    rows.push(
      `| ${model} | ${name} | ${summary.weightsSha256.slice(0, 12)} | ${partials.frames} | ${mb(partials.bytes)} | ` +
        `${mb(computed)} | ${(partials.bytes / before).toFixed(3)} | ${mb(rounds.bytes)} | ` +
        `${summary.elasticity.speculated} | ${summary.throughput.stepMsP50.toFixed(1)} |`,
    );
    process.stderr.write(`${rows.at(-1) ?? ''}\n`);
  }
  if (hashes.size !== 1) throw new Error(`${model}: relays changed the weights`);
}
publish(
  'relays',
  `# Relays

${circumstances(tensorflow)}
- One epoch of ${TRAINING_ROWS.toLocaleString('en-US')} rows, batch ${BATCH} in ${SHARDS} shards, ${WORKERS} workers of one slot, all processes on this machine, all
  parameters and gradients sent (--no-shared-memory).
- Computed: steps x children of the coordinator x parameters x 4 bytes. What is more are headers, and nodes of uneven
  or second leases; what is less are leases of several shards in one node.

| model | relays | weights | partials in | MB in | computed | of no relay | MB of rounds out | shards leased twice | ms a step |
|---|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
`,
);
