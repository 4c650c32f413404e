/** RFC 6455, 5.5: a control frame has at most 125 bytes; two are the code. */
const MAX_REASON_BYTES = 123;

/** A text cut to what fits into a WebSocket close frame, between characters. */
export function closeReason(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.byteLength <= MAX_REASON_BYTES) return text;
  const cut = bytes.subarray(0, MAX_REASON_BYTES).toString('utf8');
  return cut.replace(/\uFFFD+$/, '');
}
