import type { RoutePlugin } from '../http/app.js';
import { HttpProblem } from '../http/errors.js';
import { livePageAnswer } from './serve.js';

/** The live page at `/`, for everyone: its files hold no secret, and what it shows comes from the API, behind the login. */
export const livePage: RoutePlugin = (app) => {
  for (const path of ['/', '/live/:file']) {
    app.get(path, { config: { scopes: null }, schema: { hide: true } }, async (request, reply) => {
      const answer = await livePageAnswer(request.url, request.headers);
      if (answer === null) throw new HttpProblem(404, 'The live page has no such file.');
      return reply.status(answer.status).headers(answer.headers).send(answer.body);
    });
  }
};
