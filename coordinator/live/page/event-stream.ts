/** Server-sent events, parsed by hand: `EventSource` can send no header, and a token in a URL ends up in logs. */
export interface ServerEvent {
  readonly event: string;
  readonly data: string;
  /** Empty when none was ever sent. */
  readonly id: string;
}

/** An event of more characters than this is no event of ours. */
const MAX_EVENT_CHARS = 8 * 1024 * 1024;

/** The algorithm of https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. */
export class EventStreamParser {
  private rest = '';
  private event = '';
  private data: string[] = [];
  private size = 0;
  private id = '';

  /**
   * Takes the next piece of the stream, however it was cut. Returns the events that it completes.
   * @throws RangeError for an event without end
   */
  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    // A CR at the end may be half of a CR LF.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') events.push(...this.dispatch());
      else this.field(line);
    }
    if (this.rest.length + this.size > MAX_EVENT_CHARS) throw new RangeError('an event is too long');
    return events;
  }

  private field(line: string): void {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.event = value;
    else if (name === 'data') {
      this.data.push(value);
      this.size += value.length;
    } else if (name === 'id' && !value.includes('\0')) this.id = value;
  }

  private dispatch(): ServerEvent[] {
    const { event, data, id } = this;
    this.event = '';
    this.data = [];
    this.size = 0;
    return data.length === 0 ? [] : [{ event: event || 'message', data: data.join('\n'), id }];
  }
}
