import { Packr } from 'msgpackr/pack';
import { Bitmap } from '../../../shared/bitmap.js';
import { PROTOCOL_VERSION } from '../../../shared/protocol/limits.js';
import {
  encodeToCoordinator,
  type CoordinatorToWorker,
  type RunSpec,
  type WorkerToCoordinator,
} from '../../../shared/protocol/messages.js';
import { bytesOf } from '../../../shared/protocol/frame.js';
import { rowDigest } from '../../../shared/row-digest.js';
import { ShardPlan } from '../../../shared/shards.js';
import { coveringNodes, type Range } from '../../../shared/tree.js';
import { BareSocket } from './bare-socket.js';
import { MadeUpGradients } from './made-up.js';

/** As the frames of shared/protocol/frame.ts are. */
const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });
const ALIGNMENT = 8;
const PREFIX_BYTES = 4;

type Round = Extract<CoordinatorToWorker, { type: 'round' }>;
type Partial = Extract<WorkerToCoordinator, { type: 'partial' }>;

/** What the simulated workers of a process share: made once, of the first spec that comes. */
export class SharedWork {
  gradients: MadeUpGradients | null = null;
  plan: ShardPlan | null = null;
  private readonly orders = new Map<number, Uint32Array>();

  order(spec: RunSpec, epoch: number, shard: number): Uint32Array {
    if (epoch !== 0) throw new Error('simulated workers train for one epoch');
    let order = this.orders.get(shard);
    if (order === undefined)
      this.orders.set(shard, (order = this.planned.epochOrder(spec.seed, 0, epoch, shard)));
    return order;
  }

  get planned(): ShardPlan {
    if (this.plan === null) throw new Error('a lease before its trial');
    return this.plan;
  }
}

/** A worker as the coordinator sees it, that computes nothing: it answers each lease at once with made-up gradients. */
export class SimulatedWorker {
  readonly socket: BareSocket;
  readonly closed: Promise<void>;
  /** How long the coordinator took to answer each heartbeat, in milliseconds. */
  readonly heartbeatMs: number[] = [];
  private readonly name: string;
  private readonly work: SharedWork;
  /** Its next gradient ends in the middle, and with it the connection. */
  breaksOff = false;
  private spec: RunSpec | null = null;
  private round: Round | null = null;
  private beat: NodeJS.Timeout | undefined;
  private askedAt: number | null = null;

  constructor(port: number, name: string, work: SharedWork) {
    this.name = name;
    this.work = work;
    let resolve: () => void = () => undefined;
    this.closed = new Promise((done) => (resolve = done));
    this.socket = new BareSocket(
      port,
      (start) => this.onMessage(start),
      () => {
        clearInterval(this.beat);
        resolve();
      },
    );
  }

  greet(): void {
    const versions = { atelier: '0', node: process.version, tensorflow: 'none' };
    this.send({
      ...{
        type: 'hello',
        protocolVersion: PROTOCOL_VERSION,
        name: this.name,
        host: 'here',
        pid: process.pid,
      },
      ...{ slots: 1, versions, credential: null },
    });
  }

  private send(message: WorkerToCoordinator): void {
    this.socket.send([encodeToCoordinator(message)]);
  }

  private onMessage(start: Buffer): void {
    const headerBytes = start.readUInt32LE(0);
    const message = packr.unpack(start, {
      start: PREFIX_BYTES,
      end: PREFIX_BYTES + headerBytes,
    }) as CoordinatorToWorker;
    switch (message.type) {
      case 'welcome':
        this.startBeating(message.heartbeatIntervalMs);
        return;
      case 'run':
        this.spec = message.spec;
        this.work.gradients ??= new MadeUpGradients(message.spec.layout.size, message.spec.shards);
        this.send({ type: 'ready', run: message.run, fingerprint: '0'.repeat(64) });
        return;
      case 'trial':
        this.onTrial(start.subarray(aligned(PREFIX_BYTES + headerBytes)));
        return;
      case 'round':
        this.round = message;
        return;
      case 'lease':
        this.compute(message);
        return;
      case 'heartbeat':
        if (this.askedAt !== null) this.heartbeatMs.push(performance.now() - this.askedAt);
        this.askedAt = null;
        return;
      case 'finished':
        this.socket.close();
        return;
      case 'rows':
      case 'run-over':
    }
  }

  private onTrial(payload: Buffer): void {
    const { dataset, shards, batchSize } = this.requireSpec();
    const training = new Uint8Array(payload.subarray(0, Bitmap.byteLength(dataset.trainRows)));
    this.work.plan ??= new ShardPlan(new Bitmap(dataset.trainRows, training).rows(), shards, batchSize);
  }

  private compute(lease: Extract<CoordinatorToWorker, { type: 'lease' }>): void {
    for (const node of coveringNodes(lease, this.requireSpec().shards)) this.answer(lease.run, node);
  }

  private answer(run: number, node: Range): void {
    const { round } = this;
    if (round?.work.kind !== 'step') throw new Error('simulated workers only take steps');
    const { epoch, stepInEpoch } = round.work;
    const { planned: plan, gradients } = this.work;
    if (gradients === null) throw new Error('a lease before its run');
    let rows = 0;
    const rowDigests = Array.from({ length: node.count }, (_, i) => {
      const shard = node.start + i;
      const count = plan.microBatchRows(shard, stepInEpoch);
      rows += count;
      const at = stepInEpoch * plan.microBatch;
      return rowDigest(this.work.order(this.requireSpec(), epoch, shard).subarray(at, at + count));
    });
    const payload = bytesOf(gradients.sumOf(node));
    const { start, count } = node;
    const partial: Partial = {
      type: 'partial',
      run,
      trial: 0,
      round: round.round,
      start,
      count,
      rows,
      lossSum: MadeUpGradients.lossOf(rows),
      correct: 0,
      rowDigests,
      leftAt: null,
      computeMs: 0,
      retries: 0,
    };
    const packed = packr.pack({ payloadBytes: payload.byteLength, ...partial });
    const head = Buffer.allocUnsafe(aligned(PREFIX_BYTES + packed.byteLength)).fill(0);
    head.writeUInt32LE(packed.byteLength, 0);
    head.set(packed, PREFIX_BYTES);
    if (this.breaksOff) this.socket.sendHalf([head, payload]);
    else this.socket.send([head, payload]);
  }

  /** The first beat comes at any moment of the interval: workers do not begin together. */
  private startBeating(intervalMs: number): void {
    const beat = (): void => {
      this.askedAt ??= performance.now();
      this.send({ type: 'heartbeat' });
    };
    this.beat = setTimeout(() => {
      beat();
      this.beat = setInterval(beat, intervalMs);
    }, Math.random() * intervalMs);
  }

  private requireSpec(): RunSpec {
    if (this.spec === null) throw new Error('no run has come');
    return this.spec;
  }
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
