/**
 * Arguments: kind, the attacker's own address, port, token, attempts a second. Attacks a coordinator on this machine between the messages `go` and `stop` of its
 * parent, and answers `stop` with the number of attempts of each outcome: the HTTP status, or what became of the connection.
 */
import { connect as tcpConnect, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import {
  MAX_GREETING_BYTES,
  MAX_PENDING_PER_ADDRESS,
  PROTOCOL_VERSION,
  SUBPROTOCOL,
} from '../../../shared/protocol/limits.js';
import { encodeToCoordinator, type SessionCredential } from '../../../shared/protocol/messages.js';

/** By outcome: how often. */
export type Outcomes = Readonly<Record<string, number>>;

const [kind = '', localAddress = '', port = '', token = '', rate = ''] = process.argv.slice(2);
const HOST = '127.0.0.1';
const address = { host: HOST, port: Number(port), localAddress };

interface Ask {
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One upgrade over TLS; resolves to the status, or `cut`. */
function upgrade({ path = '/', headers = {} }: Ask): Promise<string> {
  const fields = {
    ...{
      Host: `${HOST}:${port}`,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
    },
    ...{ 'Sec-WebSocket-Key': 'MDEyMzQ1Njc4OWFiY2RlZg==', 'Sec-WebSocket-Protocol': SUBPROTOCOL },
    ...headers,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return new Promise((resolve) => {
    const socket = tlsConnect({ ...address, rejectUnauthorized: false }, () =>
      socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`),
    );
    socket.once('data', (data: Buffer) => {
      resolve(data.toString('latin1', 9, 12));
      socket.destroy();
    });
    socket.on('error', () => undefined).once('close', () => resolve('cut'));
  });
}

const bearer = (text: string): Record<string, string> => ({ Authorization: `Bearer ${text}` });

/** A connection in clear that says something and waits for its end. */
function inClear(text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = tcpConnect(address, () => socket.write(text, 'latin1'));
    socket.on('error', () => undefined).once('close', () => resolve('cut'));
  });
}

const held: Socket[] = [];

/** As many connections as one address may have, each of which says a byte now and then; those that were cut are opened again. */
function drip(first: string, later: string): Promise<string> {
  for (let i = 0; i < held.length; i++) if (held[i]?.destroyed === true) held.splice(i--, 1);
  if (held.length < MAX_PENDING_PER_ADDRESS) {
    const socket = tcpConnect(address, () => socket.write(first, 'latin1'));
    socket.on('error', () => undefined);
    held.push(socket);
    return Promise.resolve('held open');
  }
  const socket = held[Math.floor(Math.random() * held.length)];
  if (later !== '') socket?.write(later, 'latin1');
  return Promise.resolve('held open');
}

/** Somebody with a good token, who misuses it; resolves to how it ended. */
function inside(misuse: (socket: WebSocket) => void, credential: SessionCredential | null): Promise<string> {
  return new Promise((resolve) => {
    const options = { headers: bearer(token), rejectUnauthorized: false, localAddress };
    const socket = new WebSocket(`wss://${HOST}:${port}`, SUBPROTOCOL, options);
    socket.on('error', () => undefined);
    socket.once('unexpected-response', (_request, { statusCode }) => resolve(String(statusCode)));
    socket.once('close', (code) => resolve(code === 1006 ? 'left' : String(code)));
    socket.once('open', () => {
      if (credential === null) {
        misuse(socket);
        return;
      }
      const versions = { atelier: '0', node: process.version, tensorflow: 'none' };
      const hello = {
        type: 'hello',
        protocolVersion: PROTOCOL_VERSION,
        name: 'attacker',
        host: 'here',
      } as const;
      socket.send(encodeToCoordinator({ ...hello, pid: process.pid, slots: 1, versions, credential }));
      // The welcome.
      socket.once('message', () => misuse(socket));
    });
  });
}

function comeAndGo(to: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = tcpConnect({ ...address, port: to }, () => socket.destroy());
    socket.on('error', () => undefined).once('close', () => resolve('left'));
  });
}

const decoy = createServer((socket) => socket.destroy());

const CREDENTIAL = { worker: 0, epoch: 0, secret: '0'.repeat(64) };

const KINDS: Readonly<Record<string, () => Promise<string>>> = {
  'first frame too large': () => inside((socket) => socket.send(Buffer.alloc(MAX_GREETING_BYTES + 1)), null),
  'credential made up': () => inside((socket) => socket.terminate(), CREDENTIAL),
  'rows of another run': () =>
    inside((socket) => {
      socket.send(encodeToCoordinator({ type: 'need-rows', run: 99 }, Buffer.alloc(8_750, 0xff)));
      socket.terminate();
    }, CREDENTIAL),
  'garbage for a frame': () => inside((socket) => socket.send(Buffer.alloc(1_000, 0xc1)), CREDENTIAL),
  'page of another origin': () => upgrade({ headers: { ...bearer(token), Origin: 'https://evil.example' } }),
  'rebound name': () => upgrade({ headers: { ...bearer(token), Host: 'evil.example' } }),
  'token in the query': () => upgrade({ path: `/?token=${token}` }),
  'path out of the runs': () => upgrade({ path: '/api/runs/..%2f..%2f..%2fetc/files/passwd' }),
  'plain ws': () => inClear(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nUpgrade: websocket\r\n\r\n`),
  'slow loris': () => drip('\x16', '\x03'),
  'half a TLS handshake': () => drip('\x16\x03\x01\x02\x00\x01', ''),
  connections: () => comeAndGo(Number(port)),
  // What the same costs when it is not the coordinator that is attacked.
  'connections to the attacker itself': () => comeAndGo((decoy.address() as AddressInfo).port),
  'wrong token': () => upgrade({ headers: bearer(`${token.slice(0, -4)}AAAA`) }),
  'no token': () => upgrade({}),
};

export const ATTACKS: readonly string[] = Object.keys(KINDS);

const attack = KINDS[kind];
if (attack !== undefined) {
  let timer: NodeJS.Timeout | undefined;
  let outcomes: Record<string, number> = {};
  process.on('message', (message) => {
    clearInterval(timer);
    if (message === 'go') {
      outcomes = {};
      timer = setInterval(
        () => {
          void attack().then((outcome) => (outcomes[outcome] = (outcomes[outcome] ?? 0) + 1));
        },
        1_000 / Number(rate),
      );
    } else {
      for (const socket of held.splice(0)) socket.destroy();
      process.send?.(outcomes);
    }
  });
  process.once('disconnect', () => process.exit());
  decoy.listen(0, HOST, () => process.send?.('ready'));
}
