import type { Cluster } from '../cluster.js';
import type { RoutePlugin } from '../http/app.js';
import type { CoordinatorMetrics } from './coordinator-metrics.js';
import { scrapeTargets } from './service-discovery.js';

export const METRICS_PATH = '/metrics';
export const SD_PATH = '/sd';

/** What Prometheus reads of a coordinator: its metrics, and who else can be scraped. */
export const metricRoutes =
  (metrics: CoordinatorMetrics, cluster: Pick<Cluster, 'figures'>, tls: boolean): RoutePlugin =>
  (app) => {
    app.get(METRICS_PATH, { schema: { description: 'Metrics for Prometheus.' } }, async (_request, reply) => {
      const { contentType, text } = await metrics.render();
      return reply.type(contentType).send(text);
    });
    app.get(
      SD_PATH,
      { schema: { description: 'Who can be scraped: service discovery for Prometheus.' } },
      (request, reply) => {
        // Prometheus reaches the coordinator by the name by which it has just asked.
        const groups = scrapeTargets({ target: request.headers.host ?? '', tls }, cluster.figures());
        return reply.type('application/json').send(JSON.stringify(groups));
      },
    );
  };
