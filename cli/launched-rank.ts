import { AtelierError } from '../shared/errors.js';

/** Where this process stands among those that a launcher has started. */
export interface Rank {
  readonly launcher: 'torchrun' | 'openmpi' | 'slurm';
  /** 0 coordinates. */
  readonly rank: number;
  readonly size: number;
  /** Host of rank 0, where the launcher tells. */
  readonly coordinatorHost: string | null;
  readonly port: number | null;
}

const number = (text: string | undefined): number | null =>
  text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : null;

/**
 * Reads what torchrun (`RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`), OpenMPI (`OMPI_COMM_WORLD_*`) or Slurm's srun
 * (`SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_STEP_NODELIST`) set. Null outside a launcher.
 */
export function rankFromEnvironment(env: NodeJS.ProcessEnv): Rank | null {
  const coordinatorHost = env['MASTER_ADDR'] ?? null;
  const port = number(env['MASTER_PORT']);
  const sources = [
    ['openmpi', env['OMPI_COMM_WORLD_RANK'], env['OMPI_COMM_WORLD_SIZE'], null],
    ['torchrun', env['RANK'], env['WORLD_SIZE'], null],
    [
      'slurm',
      env['SLURM_PROCID'],
      env['SLURM_STEP_NUM_TASKS'] ?? env['SLURM_NTASKS'],
      env['SLURM_STEP_NODELIST'],
    ],
  ] as const;
  for (const [launcher, rankText, sizeText, nodes] of sources) {
    const [rank, size] = [number(rankText), number(sizeText)];
    if (rank === null || size === null || rank >= size) continue;
    const firstNode = nodes === undefined || nodes === null ? null : (expandNodeList(nodes)[0] ?? null);
    return { launcher, rank, size, coordinatorHost: coordinatorHost ?? firstNode, port };
  }
  return null;
}

const MAX_NODES = 65_536;

/**
 * The hosts of Slurm's short form, such as `gpu[01-03,7],login`.
 * @throws AtelierError `usage` when it is not one
 */
export function expandNodeList(text: string): string[] {
  const nodes: string[] = [];
  for (const part of text.match(/(?:[^,[]|\[[^\]]*\])+/g) ?? []) {
    const match = /^([^[\]]*)(?:\[([0-9,-]+)\])?([^[\]]*)$/.exec(part.trim());
    if (match === null) throw new AtelierError('usage', `${text}: not a Slurm node list`);
    const [, head = '', ranges, tail = ''] = match;
    if (ranges === undefined) nodes.push(head + tail);
    else for (const id of ranges.split(',').flatMap(expandRange)) nodes.push(head + id + tail);
    if (nodes.length > MAX_NODES) throw new AtelierError('usage', `more than ${MAX_NODES} nodes`);
  }
  return nodes;
}

function expandRange(range: string): string[] {
  const [first = '', last = first] = range.split('-');
  const count = Number(last) - Number(first) + 1;
  if (!(count >= 1 && count <= MAX_NODES)) throw new AtelierError('usage', `${range}: not a range of nodes`);
  return Array.from({ length: count }, (_, i) => String(Number(first) + i).padStart(first.length, '0'));
}
