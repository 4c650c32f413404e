import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { PROJECT_ROOT } from '../../shared/version.js';

const DEPLOY = join(PROJECT_ROOT, 'deploy');

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: unknown;
}

interface PodSpec {
  readonly automountServiceAccountToken: boolean;
  readonly securityContext: Record<string, unknown>;
  readonly containers: readonly { name: string; securityContext: unknown; resources: { limits: object } }[];
  readonly initContainers?: PodSpec['containers'];
}

const manifests = readdirSync(join(DEPLOY, 'kubernetes'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.yaml') && !name.endsWith('kustomization.yaml'))
  .flatMap((name) =>
    parseAllDocuments(readFileSync(join(DEPLOY, 'kubernetes', name), 'utf8'), { merge: true }).map(
      (document) => {
        expect(document.errors).toEqual([]);
        return document.toJS() as Manifest;
      },
    ),
  );
const named = manifests.map((manifest): [string, Manifest] => [
  `${manifest.kind} ${manifest.metadata.name}`,
  manifest,
]);

/** Kubernetes' own OpenAPI schemas, as the package kubernetes-models carries them. */
async function validate(manifest: Manifest): Promise<void> {
  const path = `kubernetes-models/${manifest.apiVersion}/${manifest.kind}`;
  const module = (await import(path)) as Record<string, new (data: object) => { validate(): void }>;
  const Model = module[manifest.kind];
  if (Model === undefined) throw new Error(`no schema of ${manifest.apiVersion} ${manifest.kind}`);
  new Model(manifest).validate();
}

describe('the Kubernetes manifests', () => {
  test.each(named)('%s fits the schema', async (_name, manifest) => {
    await validate(manifest);
  });

  test('would be refused with a mistake in them', async () => {
    const [first] = manifests.filter(({ kind }) => kind === 'StatefulSet');
    await expect(validate({ ...(first as Manifest), spec: { replicas: 'many' } })).rejects.toThrow();
  });

  test.each(named.filter(([, { kind }]) => ['StatefulSet', 'Deployment'].includes(kind)))(
    '%s runs as nobody special, on a file system that it cannot change',
    (_name, { spec }) => {
      const pod = (spec as { template: { spec: PodSpec } }).template.spec;
      expect(pod.automountServiceAccountToken).toBe(false);
      expect(pod.securityContext).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      for (const { name, securityContext, resources } of [...pod.containers, ...(pod.initContainers ?? [])]) {
        expect({ name, ...(securityContext as object) }).toEqual({
          name,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
        expect(resources.limits).toHaveProperty('memory');
      }
    },
  );

  test('do not carry keys', () => {
    expect(manifests.filter(({ kind }) => kind === 'Secret')).toEqual([]);
    expect(readFileSync(join(DEPLOY, 'kubernetes', 'base', '.gitignore'), 'utf8')).toContain('cluster/');
  });
});

describe('compose.yaml', () => {
  interface Service {
    readonly read_only: boolean;
    readonly cap_drop: string[];
    readonly volumes?: string[];
    readonly environment?: Record<string, string>;
  }
  const { services, volumes } = parse(readFileSync(join(DEPLOY, 'compose.yaml'), 'utf8'), {
    merge: true,
  }) as {
    services: Record<string, Service>;
    volumes: Record<string, unknown>;
  };

  test.each(Object.entries(services))(
    '%s cannot write to its image and has no capabilities',
    (_name, service) => {
      expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'] });
    },
  );

  test('shows the CA to the coordinator and the maker of tokens alone', () => {
    const users = Object.entries(services)
      .filter(([, service]) => service.volumes?.some((volume) => volume.startsWith('cluster:')))
      .map(([name]) => name);
    expect(users).toEqual(['token', 'coordinator']);
  });

  test('names volumes that it declares', () => {
    const used = Object.values(services)
      .flatMap((service) => service.volumes ?? [])
      .map((volume) => volume.split(':')[0] ?? '')
      .filter((source) => !source.startsWith('.'));
    expect([...new Set(used)].sort()).toEqual(Object.keys(volumes).sort());
  });
});

test('the Slurm script is one that bash understands', () => {
  execFileSync('bash', ['-n', join(DEPLOY, 'slurm', 'atelier.sbatch')]);
});

/** In tenths of systemd's measure, from 0 (closed) to 10 (wide open). */
const MOST_EXPOSURE = 20;
const canJudge = spawnSync('systemd-analyze', ['security', '--offline=yes', '--help']).status === 0;

test.skipIf(!canJudge).each(['atelier-coordinator', 'atelier-worker'])(
  'systemd finds %s.service hardened',
  (unit) => {
    const args = ['security', '--offline=yes', `--threshold=${MOST_EXPOSURE}`, '--no-pager'];
    const path = join(DEPLOY, 'systemd', `${unit}.service`);
    const { status, stdout } = spawnSync('systemd-analyze', [...args, path], { encoding: 'utf8' });
    expect(stdout).toContain('Overall exposure level');
    expect(status).toBe(0);
  },
);
