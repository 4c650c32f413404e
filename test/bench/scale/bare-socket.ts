import { connect, type Socket } from 'node:net';
import { randomBytes } from 'node:crypto';
import { SUBPROTOCOL } from '../../../shared/protocol/limits.js';

/** Of larger messages only the beginning is kept: their header, and payloads that are small. */
const KEPT_BYTES = 16 * 1024;
const READ_BYTES = 64 * 1024;
const LONGEST_HEADER = 10;
const END_OF_HEADERS = '\r\n\r\n';

/** All sockets of a process read into it: what they read is looked at before the next one reads. */
const readBuffer = Buffer.alloc(READ_BYTES);

/**
 * A WebSocket client that costs little more than its TCP socket: it reads into memory that is there, and forgets payloads as they come.
 * So the process at the other end is what a benchmark measures.
 */
export class BareSocket {
  private readonly socket: Socket;
  private readonly onMessage: (start: Buffer, length: number) => void;
  private upgrading = '';
  private isOpen = false;
  private readonly header = Buffer.alloc(LONGEST_HEADER);
  private headerHas = 0;
  /** The beginnings of its messages, one after the other. */
  private readonly beginning = Buffer.alloc(KEPT_BYTES);
  /** Of the message that is coming: its length, what of it has come, and its kept beginning. */
  private length = 0;
  private has = 0;
  private kept: Buffer | null = null;
  /** False when it was closed before. */
  readonly opened: Promise<boolean>;
  private resolveOpened: (isOpen: boolean) => void = () => undefined;

  /** @param onMessage the first 16 KiB of a message, until it returns, and the length of the whole */
  constructor(port: number, onMessage: (start: Buffer, length: number) => void, onClose: () => void) {
    this.onMessage = onMessage;
    this.opened = new Promise((resolve) => (this.resolveOpened = resolve));
    this.socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (bytes) => {
          this.onBytes(readBuffer.subarray(0, bytes));
          return true;
        },
      },
    });
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.resolveOpened(false);
      onClose();
    });
    this.socket.write(
      `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nSec-WebSocket-Version: 13\r\n` +
        `Sec-WebSocket-Protocol: ${SUBPROTOCOL}${END_OF_HEADERS}`,
    );
  }

  /** Sends one binary message of these parts, masked with zeros. They are not copied. */
  send(parts: readonly Uint8Array[]): void {
    const length = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const header = headerOf(length);
    this.socket.cork();
    this.socket.write(header);
    for (const part of parts) this.socket.write(part);
    this.socket.uncork();
  }

  /** Breaks off in the middle of a message. */
  sendHalf([head, payload]: readonly [head: Uint8Array, payload: Uint8Array]): void {
    const { socket } = this;
    const header = headerOf(head.byteLength + payload.byteLength);
    socket.end(Buffer.concat([header, head, payload.subarray(0, payload.byteLength / 2)]));
  }

  close(): void {
    this.socket.destroy();
  }

  private onBytes(bytes: Buffer): void {
    if (this.isOpen) {
      this.parse(bytes);
      return;
    }
    this.upgrading += bytes.toString('latin1');
    const end = this.upgrading.indexOf(END_OF_HEADERS);
    if (end < 0) return;
    if (!this.upgrading.startsWith('HTTP/1.1 101 ')) throw new Error(this.upgrading);
    this.isOpen = true;
    this.resolveOpened(true);
    this.onBytes(Buffer.from(this.upgrading.slice(end + END_OF_HEADERS.length), 'latin1'));
  }

  private parse(bytes: Buffer): void {
    for (let at = 0; at < bytes.byteLength;) {
      if (this.kept === null) {
        this.header[this.headerHas++] = bytes[at++] ?? 0;
        this.beginMessage();
        continue;
      }
      const count = Math.min(this.length - this.has, bytes.byteLength - at);
      if (this.has < this.kept.byteLength) bytes.copy(this.kept, this.has, at, at + count);
      this.has += count;
      at += count;
      if (this.has === this.length) this.endMessage(this.kept);
    }
  }

  /** Once the header is whole. */
  private beginMessage(): void {
    const { header, headerHas } = this;
    const code = (header[1] ?? 0) & 0x7f;
    const lengthBytes = code === 127 ? 8 : code === 126 ? 2 : 0;
    if (headerHas < 2 || headerHas < 2 + lengthBytes) return;
    if (header[0] === 0x88) {
      this.close();
      return;
    }
    if (header[0] !== 0x82) throw new Error(`a frame of kind ${header[0] ?? 0}`);
    this.length =
      lengthBytes === 0
        ? code
        : header.readUIntBE(2 + lengthBytes - Math.min(6, lengthBytes), Math.min(6, lengthBytes));
    this.has = 0;
    this.kept = this.beginning.subarray(0, this.length);
  }

  private endMessage(kept: Buffer): void {
    this.kept = null;
    this.headerHas = 0;
    this.onMessage(kept, this.length);
  }
}

/** Of a binary message in one frame, masked with zeros. */
function headerOf(length: number): Buffer {
  const [lengthBytes, code] = length > 65_535 ? [8, 127] : length > 125 ? [2, 126] : [0, length];
  const header = Buffer.allocUnsafe(2 + lengthBytes + 4).fill(0);
  header[0] = 0x82;
  header[1] = 0x80 | code;
  if (lengthBytes > 0)
    header.writeUIntBE(length, 2 + lengthBytes - Math.min(6, lengthBytes), Math.min(6, lengthBytes));
  return header;
}
