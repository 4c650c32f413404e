// The health check of the image. A coordinator must answer on ATELIER_HEALTH_URL; a worker has no door, so that its
// process, which is the container's first, is the check.
import { get as getPlain } from 'node:http';
import { get as getTls } from 'node:https';

const url = process.env.ATELIER_HEALTH_URL;
if (url) {
  // It asks itself: whose certificate this is does not matter.
  const options = { rejectUnauthorized: false, timeout: 4_000 };
  const request = (url.startsWith('https:') ? getTls : getPlain)(url, options, (response) => {
    process.exit(response.statusCode === 200 ? 0 : 1);
  });
  request.on('timeout', () => request.destroy(new Error('no answer in time')));
  request.on('error', () => process.exit(1));
}
