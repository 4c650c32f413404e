/** Workers that are shown as lost, and for how long. */
const MAX_LOST = 64;
const LOST_SHOWN_MS = 5 * 60_000;

/** Workers whose connection broke a short while ago, longest ago first, by their numbers. */
export class LostWorkers<Member> {
  private readonly lost = new Map<number, { readonly member: Member; readonly at: number }>();

  /** @param at milliseconds */
  add(number: number, member: Member, at: number): void {
    this.lost.set(number, { member, at });
    const [oldest] = this.lost.keys();
    if (this.lost.size > MAX_LOST && oldest !== undefined) this.lost.delete(oldest);
  }

  /** Those that are shown. */
  shownAt(now: number): readonly { readonly member: Member; readonly at: number }[] {
    for (const [number, { at }] of this.lost) if (now - at > LOST_SHOWN_MS) this.lost.delete(number);
    return [...this.lost.values()];
  }

  /** Whoever is meant is here again. */
  found(isMeant: (number: number, member: Member) => boolean): void {
    for (const [number, { member }] of this.lost) if (isMeant(number, member)) this.lost.delete(number);
  }
}
