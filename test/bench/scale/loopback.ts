/**
 * Arguments: server | clients, port, sockets, bytes, steps. The traffic of a training without the training: the server sends so many bytes
 * to each client, which answers with as many when they are there; the next step begins when all have. Each prints one line of JSON.
 */
import { connect, createServer, type Socket } from 'node:net';
import { readIntoOneBuffer } from '../../../coordinator/one-buffer.js';

/** What the server says at its end. */
export interface LoopbackReport {
  /** Of each step. */
  readonly ms: readonly number[];
  readonly cpuMsPerStep: number;
}

const HELLO = 'x';
const READ_BYTES = 64 * 1024;

const [role = '', ...numbers] = process.argv.slice(2);
const [port = 0, sockets = 0, bytes = 0, steps = 0] = numbers.map(Number);
const payload = Buffer.alloc(bytes, 1);

function serve(): void {
  const peers: Socket[] = [];
  const ms: number[] = [];
  const cpuBefore = process.cpuUsage();
  let missing = 0;
  let startedAt = 0;
  const begin = (): void => {
    startedAt = performance.now();
    missing = sockets * bytes;
    for (const peer of peers) peer.write(payload);
  };
  const endStep = (): void => {
    ms.push(performance.now() - startedAt);
    if (ms.length < steps) {
      begin();
      return;
    }
    const { user, system } = process.cpuUsage(cpuBefore);
    const report: LoopbackReport = { ms, cpuMsPerStep: (user + system) / 1_000 / steps };
    process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
  };
  const server = createServer({ noDelay: true }, (peer) => {
    // Who only looks whether somebody listens says nothing.
    peer.once('data', () => {
      peers.push(peer);
      const take = ({ byteLength }: Buffer): void => {
        missing -= byteLength;
        if (missing === 0) endStep();
      };
      peer.on('data', take);
      readIntoOneBuffer(peer, take);
      if (peers.length === sockets) begin();
    });
  });
  server.listen(port, '127.0.0.1', 511);
}

function join(): void {
  const buffer = Buffer.alloc(READ_BYTES);
  let open = sockets;
  for (let i = 0; i < sockets; i++) {
    let has = 0;
    const socket = connect({
      ...{ host: '127.0.0.1', port, noDelay: true },
      onread: {
        buffer,
        callback: (count) => {
          has += count;
          if (has < bytes) return true;
          has -= bytes;
          socket.write(payload);
          return true;
        },
      },
    });
    socket.write(HELLO);
    socket
      .on('error', () => undefined)
      .on('close', () => {
        if (--open === 0) process.stdout.write('null\n');
      });
  }
}

if (role === 'server') serve();
else join();
