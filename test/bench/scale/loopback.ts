/**
 * Arguments: server | clients, port, sockets, bytes, steps. The traffic of a training without the training: the server sends so many bytes
 * to each client, which answers with as many when they are there; the next step begins when all have. The server prints the milliseconds of
 * the steps as JSON.
 */
import { connect, createServer, type Socket } from 'node:net';

const READ_BYTES = 64 * 1024;

const [role = '', ...numbers] = process.argv.slice(2);
const [port = 0, sockets = 0, bytes = 0, steps = 0] = numbers.map(Number);
const payload = Buffer.alloc(bytes, 1);

function serve(): void {
  const peers: Socket[] = [];
  const ms: number[] = [];
  let missing = 0;
  let startedAt = 0;
  const begin = (): void => {
    startedAt = performance.now();
    missing = sockets * bytes;
    for (const peer of peers) peer.write(payload);
  };
  const server = createServer({ noDelay: true }, (peer) => {
    peers.push(peer);
    peer.on('data', (data) => {
      missing -= data.byteLength;
      if (missing > 0) return;
      ms.push(performance.now() - startedAt);
      if (ms.length < steps) begin();
      else {
        process.stdout.write(`${JSON.stringify(ms)}\n`);
        process.exit(0);
      }
    });
    if (peers.length === sockets) begin();
  });
  server.listen(port, '127.0.0.1', 511);
}

function join(): void {
  const buffer = Buffer.alloc(READ_BYTES);
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
    socket.on('error', () => undefined);
  }
}

if (role === 'server') serve();
else join();
