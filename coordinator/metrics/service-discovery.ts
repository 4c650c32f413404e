import type { ClusterFigures } from '../cluster-figures.js';
import { writeFileAtomic } from '../files.js';
import { workerLabels } from './labels.js';
import type { Clock } from '../../shared/clock.js';
import { messageOf } from '../../shared/errors.js';

/** One group of targets, as Prometheus reads them from an URL or a file. */
export interface TargetGroup {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

/** How often the file of targets is compared with the cluster. */
export const SD_FILE_INTERVAL_MS = 5_000;

/** An IPv6 address stands in brackets before its port; one that stands for an IPv4 address is that. */
function hostAndPort(address: string, port: number): string {
  const plain = address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/, '');
  return plain.includes(':') ? `[${plain}]:${port}` : `${plain}:${port}`;
}

/**
 * Who can be scraped: the coordinator, and each worker that serves metrics itself. A worker gives its port alone; the
 * address is the one it connects from, so that no worker can send Prometheus anywhere else.
 * @param coordinator `host:port` of the coordinator as Prometheus calls it
 */
export function scrapeTargets(
  coordinator: { readonly target: string; readonly tls: boolean },
  { workers }: Pick<ClusterFigures, 'workers'>,
): TargetGroup[] {
  const scheme = (tls: boolean): string => (tls ? 'https' : 'http');
  const labels = workerLabels(workers);
  const groups: TargetGroup[] = [
    {
      targets: [coordinator.target],
      labels: { __scheme__: scheme(coordinator.tls), component: 'coordinator' },
    },
  ];
  workers.forEach(({ report, address }, i) => {
    const metrics = report?.metrics ?? null;
    if (metrics === null || address === null) return;
    groups.push({
      targets: [hostAndPort(address, metrics.port)],
      labels: { __scheme__: scheme(metrics.tls), component: 'worker', worker: labels[i] ?? '' },
    });
  });
  return groups;
}

/** Keeps a file of targets for Prometheus' `file_sd_configs`. */
export class TargetFile {
  private readonly path: string;
  private readonly clock: Clock;
  private readonly targets: () => readonly TargetGroup[];
  private readonly onTrouble: (message: string) => void;
  private written = '';
  private trouble = '';
  private cancel: () => void;

  /** @param onTrouble told when the file cannot be written, once for each reason; it is tried again */
  constructor(options: {
    readonly path: string;
    readonly clock: Clock;
    readonly targets: () => readonly TargetGroup[];
    readonly onTrouble: (message: string) => void;
  }) {
    this.path = options.path;
    this.clock = options.clock;
    this.targets = options.targets;
    this.onTrouble = options.onTrouble;
    this.cancel = this.update();
  }

  /** The coordinator ends: nothing is left to be scraped. */
  close(): void {
    this.cancel();
    this.write([]);
  }

  private update(): () => void {
    this.write(this.targets());
    return this.clock.after(SD_FILE_INTERVAL_MS, () => (this.cancel = this.update()));
  }

  private write(groups: readonly TargetGroup[]): void {
    const text = `${JSON.stringify(groups, null, 2)}\n`;
    if (text === this.written) return;
    try {
      writeFileAtomic(this.path, text);
      this.written = text;
      this.trouble = '';
    } catch (error) {
      const message = `cannot write ${this.path}: ${messageOf(error)}`;
      if (message !== this.trouble) this.onTrouble(message);
      this.trouble = message;
    }
  }
}
