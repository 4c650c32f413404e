const TOKEN_KEY = 'atelier-token';
const REQUEST_TIMEOUT_MS = 10_000;

/** The coordinator answered, but not with what was asked for. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }

  /** A token is missing, wrong, or not for this. */
  get isRefusal(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

/** Where a run's own paths start. */
export const runPath = (name: string): string => `api/v1/runs/${encodeURIComponent(name)}`;

/** The coordinator's HTTP API. The token lives in this tab, and travels in a header alone. */
export class Api {
  get token(): string | null {
    return sessionStorage.getItem(TOKEN_KEY);
  }

  set token(token: string | null) {
    if (token === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, token);
  }

  /** @throws ApiError when the coordinator says no; TypeError or DOMException when nobody answers */
  async json(path: string, signal: AbortSignal): Promise<unknown> {
    const all = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]);
    return (await this.fetch(path, 'application/json', all)).json();
  }

  /** The bytes of an event stream. */
  async stream(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const { body } = await this.fetch(path, 'text/event-stream', signal);
    if (body === null) throw new ApiError(204, 'the stream is empty');
    return body;
  }

  /** Fetches a file with the token, which no link could carry, and hands it to the browser as a download. */
  async download(path: string, name: string): Promise<void> {
    const response = await this.fetch(path, '*/*', AbortSignal.timeout(600_000));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  private async fetch(path: string, accept: string, signal: AbortSignal): Promise<Response> {
    const { token } = this;
    const authorization: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(path, {
      headers: { accept, ...authorization },
      signal,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
    });
    if (response.ok) return response;
    throw new ApiError(response.status, await complaint(response));
  }
}

/** What the coordinator says is wrong: `{ error }`, or plain text. */
async function complaint(response: Response): Promise<string> {
  const text = (await response.text().catch(() => '')).slice(0, 500);
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    if (typeof error === 'string') return error;
  } catch {
    // Plain text.
  }
  return text || `HTTP ${response.status}`;
}
