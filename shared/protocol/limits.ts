/** Every bound of the wire, in one place. */

/** The WebSocket subprotocol; a change that old peers cannot read gets a new one. */
export const SUBPROTOCOL = 'atelier.v1';
/** Checked in the hello: both sides must have the same. */
export const PROTOCOL_VERSION = 6;

/** The largest msgpack header: a lease table and the longest topology fit. */
export const MAX_HEADER_BYTES = 4 * 1024 * 1024;
/** The largest frame before a worker has been let in. */
export const MAX_GREETING_BYTES = 16 * 1024;
/** The largest frame at all: 64 Mi parameters and their header. */
export const MAX_FRAME_BYTES = 256 * 1024 * 1024 + MAX_HEADER_BYTES;
/** Rows are streamed in pieces of about this size. */
export const ROWS_PIECE_BYTES = 1024 * 1024;
/** What may wait in a socket's send buffer before the peer counts as stuck, beyond two frames. */
export const MAX_BUFFERED_BYTES = 64 * 1024 * 1024;

/** From TCP connection to hello. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How often a worker says that it lives. */
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** How often a worker reports how it does. */
export const REPORT_INTERVAL_MS = 2_000;
/** Silence after which the other side counts as dead. */
export const HEARTBEAT_TIMEOUT_MS = 15_000;

/** How long a leaving worker may take to answer what it owes; after that it just goes. */
export const DRAIN_TIMEOUT_MS = 10_000;
/** A worker that owes an answer for this long, and gives none at all, is cut off although it lives. */
export const LEASE_TIMEOUT_MS = 120_000;
/** From the run's spec to `ready`: loading and compiling the model, under any load. */
export const READY_TIMEOUT_MS = 300_000;

/** Slots of one worker, or of all workers of a relay. */
export const MAX_SLOTS = 65_536;
/** Most workers at once. */
export const MAX_WORKERS = 1_024;
/** Most connections that have not shown a token, or asked for anything, yet. */
export const MAX_PENDING_HANDSHAKES = 256;
/** The same from one address. */
export const MAX_PENDING_PER_ADDRESS = 64;
/** The largest request headers. */
export const MAX_REQUEST_HEADER_BYTES = 8 * 1024;
/** So many wrong tokens may come from one address in a row ... */
export const MAX_REFUSED_LOGINS = 30;
/** ... and after that one in this time. */
export const LOGIN_REFILL_MS = 1_000;
/**
 * Connections of one address that may come to nothing, one after the other: closed before a token was shown, or soon after. Further ones
 * are cut as they come, before they cost a TLS handshake.
 */
export const MAX_FRUITLESS_CONNECTIONS = 64;
/** After so long it may have one more. */
export const FRUITLESS_REFILL_MS = 1_000;
/** A worker that leaves within this time has come for nothing. */
export const SHORT_SESSION_MS = 5_000;
/** How often the tokens of open connections are checked again. */
export const TOKEN_CHECK_INTERVAL_MS = 5_000;

/**
 * WebSocket close codes (RFC 6455 leaves 4000 to 4999 to applications).
 *
 * | code | meaning |
 * |---|---|
 * | 4400 | bad frame: not the protocol |
 * | 4401 | refused: the token has expired or was revoked |
 * | 4408 | no hello in time, or silent for too long |
 * | 4409 | the worker has a newer connection |
 * | 4412 | refused: its numerics differ from the run's |
 * | 4426 | refused: protocol version |
 * | 4429 | too many workers, or the peer does not read |
 * | 4000 | the run is over: nothing more to do |
 */
export const CloseCode = {
  finished: 4000,
  badFrame: 4400,
  unauthorized: 4401,
  timeout: 4408,
  superseded: 4409,
  otherNumerics: 4412,
  versionMismatch: 4426,
  overloaded: 4429,
} as const;
export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];
