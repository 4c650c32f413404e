/**
 * An answer that is not what was asked for, on purpose: thrown by routes.
 * @param message what is wrong and what to do; the client sees it
 */
export class HttpProblem extends Error {
  readonly statusCode: number;
  /** Seconds after which trying again may help. */
  readonly retryAfterSeconds: number | null;

  constructor(statusCode: number, message: string, retryAfterSeconds: number | null = null) {
    super(message);
    this.name = 'HttpProblem';
    this.statusCode = statusCode;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export const noSuchRun = (name: string): HttpProblem =>
  new HttpProblem(404, `There is no run ${name}. GET /api/v1/runs names those that are here.`);
