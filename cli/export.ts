import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Option, type Command } from 'commander';
import { AtelierError, messageOf } from '../shared/errors.js';
import { readExportedModel } from '../shared/models/exported-model.js';
import { safetensors } from '../results/export/safetensors.js';
import { openModel, openTrial, parseFold, type ChosenTrial } from './trained.js';

const FORMATS = ['tfjs', 'savedmodel', 'safetensors'] as const;
type Format = (typeof FORMATS)[number];

interface ExportFlags {
  readonly format: Format;
  readonly out: string;
  readonly fold?: string;
}

export function addExportCommand(program: Command): void {
  program
    .command('export')
    .description("write a run's network for other programs")
    .argument('<run>', 'a run directory')
    .addOption(
      new Option(
        '--format <format>',
        'tfjs: LayersModel; savedmodel: TensorFlow, with the signature serving_default; safetensors: weights alone',
      )
        .choices([...FORMATS])
        .makeOptionMandatory(),
    )
    .requiredOption('--out <folder>', 'folder to write, which must not exist')
    .option('--fold <n>', 'which network of a k-fold run (default: the final fit, or the first fold)')
    .action(async (run: string, flags: ExportFlags) => {
      const chosen = openTrial(run, parseFold(flags.fold));
      // Bad files are told before anything is written.
      readExportedModel(chosen.folder);
      const files = await filesOf(flags.format, chosen);
      process.stdout.write(`${write(flags.out, files)}\n`);
    });
}

type Files = Readonly<Record<string, Uint8Array | string>>;

async function filesOf(format: Format, { run, trial, folder }: ChosenTrial): Promise<Files> {
  const { classNames } = run.manifest.dataset;
  switch (format) {
    case 'tfjs':
      return tfjsFiles(folder);
    case 'savedmodel': {
      const model = await openModel(folder);
      const { exportSavedModel } = await import('../worker/compiled/export-saved-model.js');
      try {
        return { 'saved_model.pb': exportSavedModel(model), 'class-names.txt': lines(classNames) };
      } finally {
        model.dispose();
      }
    }
    case 'safetensors': {
      const { weights, topology } = readExportedModel(folder);
      const metadata = { format: 'atelier', weightsSha256: trial.weightsSha256 };
      return {
        'model.safetensors': safetensors(weights, metadata),
        'topology.json': `${JSON.stringify(topology)}\n`,
        'class-names.txt': lines(classNames),
      };
    }
  }
}

/** A run's network is a LayersModel already: its own files, and no others. */
function tfjsFiles(folder: string): Files {
  const json = readFileSync(join(folder, 'model.json'), 'utf8');
  const { weightsManifest } = JSON.parse(json) as { weightsManifest: { paths: string[] }[] };
  const paths = weightsManifest.flatMap((group) => group.paths);
  const weights = Object.fromEntries(paths.map((path) => [path, readFileSync(join(folder, path))] as const));
  return { 'model.json': json, ...weights };
}

const lines = (names: readonly string[]): string => names.map((name) => `${name}\n`).join('');

function write(out: string, files: Files): string {
  if (existsSync(out)) throw new AtelierError('usage', `--out ${out} exists: name a folder that does not`);
  try {
    mkdirSync(out, { recursive: true });
    for (const [name, contents] of Object.entries(files)) writeFileSync(join(out, name), contents);
  } catch (cause) {
    throw new AtelierError('usage', `cannot write to ${out}: ${messageOf(cause)}`, { cause });
  }
  return out;
}
