// `npm run dashboards`: writes the dashboards that are kept with the sources.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';
import { dashboardFiles } from './dashboards.js';

for (const [name, text] of Object.entries(dashboardFiles())) {
  writeFileSync(join(PROJECT_ROOT, 'deploy', 'grafana', 'dashboards', name), text);
}
