import fc from 'fast-check';
import { expect, test } from 'vitest';
import { closeReason } from '../../shared/protocol/close-reason.js';

/** What a close frame holds beside its code (RFC 6455, 5.5). */
const MAX_BYTES = 123;

test('a close reason fits into a close frame and begins like the text, whatever the script', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (text) => {
      const reason = closeReason(text);
      expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(MAX_BYTES);
      expect(text.startsWith(reason)).toBe(true);
    }),
  );
});

test('a close reason is cut between characters and no earlier than it must be', () => {
  expect(closeReason('✖'.repeat(60))).toBe('✖'.repeat(41));
});
