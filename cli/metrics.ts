import { version_core as tfjsVersion } from '@tensorflow/tfjs-core';
import type { Command } from 'commander';
import type { Cluster } from '../coordinator/cluster.js';
import { CoordinatorMetrics } from '../coordinator/metrics/coordinator-metrics.js';
import { scrapeTargets, TargetFile } from '../coordinator/metrics/service-discovery.js';
import type { CoordinatorServer } from '../coordinator/server.js';
import { systemClock } from '../shared/clock.js';
import { ATELIER_VERSION } from '../shared/version.js';

/** The flags of a command that opens a coordinator to Prometheus. */
export interface MetricsFlags {
  readonly sdFile?: string;
}

export function addMetricsOptions(command: Command): void {
  command.option('--sd-file <file>', "keep a file of what can be scraped, for Prometheus' file_sd_configs");
}

export const coordinatorMetrics = (cluster: Cluster, runsFolder: string): CoordinatorMetrics =>
  new CoordinatorMetrics({
    ...{ cluster, clock: systemClock, runsFolder },
    versions: { version: ATELIER_VERSION, node: process.version, tensorflow: `tfjs ${tfjsVersion}` },
  });

/** The file of `--sd-file`; null when it was not asked for. */
export function targetFile(
  { sdFile }: MetricsFlags,
  server: CoordinatorServer,
  cluster: Cluster,
  onTrouble: (message: string) => void,
): TargetFile | null {
  if (sdFile === undefined) return null;
  const { host: target, protocol } = new URL(server.joinUrl);
  const coordinator = { target, tls: protocol === 'wss:' };
  return new TargetFile({
    ...{ path: sdFile, clock: systemClock, onTrouble },
    targets: () => scrapeTargets(coordinator, cluster.figures()),
  });
}
