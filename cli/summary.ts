import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { AtelierError } from '../shared/errors.js';
import { readExportedModel } from '../shared/models/exported-model.js';
import { describeTopology } from '../shared/models/layer-table.js';
import type { Topology } from '../shared/models/presets.js';
import { loadTopology } from '../shared/models/topology.js';
import type { LayerInfo } from '../shared/models/trained-model.js';
import { openTrial } from './trained.js';

interface SummaryFlags {
  readonly model?: string;
  readonly json?: boolean;
}

/** The images presets are shown for. */
const PRESET_IMAGE = [28, 28, 1] as const;
const PRESET_CLASSES = 10;

export function addSummaryCommand(program: Command): void {
  program
    .command('summary')
    .description('print the layers of a network: name, type, output shape, parameters')
    .argument('[run]', 'a run directory')
    .option('--model <model>', 'instead of a run: a preset, a topology (.json), or a folder with model.json')
    .option('--json', 'print the table as JSON')
    .action(async (run: string | undefined, flags: SummaryFlags) => {
      // Shapes need no native TensorFlow.
      await import('@tensorflow/tfjs-backend-cpu');
      const { backend } = await import('@tensorflow/tfjs-core');
      (backend() as { firstUse?: boolean }).firstUse = false;
      const layers = await describeTopology(topologyOf(run, flags.model));
      process.stdout.write(flags.json === true ? `${JSON.stringify(layers)}\n` : `${layerText(layers)}\n`);
    });
}

function topologyOf(run: string | undefined, model: string | undefined): Topology {
  if ((run === undefined) === (model === undefined)) {
    throw new AtelierError('usage', 'name a run directory, or a network with --model, and not both');
  }
  if (run !== undefined) return readExportedModel(openTrial(run, null).folder).topology;
  if (model !== undefined && existsSync(join(model, 'model.json')) && statSync(model).isDirectory()) {
    return readExportedModel(model).topology;
  }
  return loadTopology(model ?? '', PRESET_IMAGE, PRESET_CLASSES);
}

const count = (n: number): string => n.toLocaleString('en-US');

function layerText(layers: readonly LayerInfo[]): string {
  const table = new Table({
    head: ['layer', 'type', 'output shape', 'parameters'],
    colAligns: ['left', 'left', 'left', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, type, outputShape, parameters } of layers) {
    table.push([name, type, `(${outputShape.map((d) => (d < 0 ? '?' : d)).join(', ')})`, count(parameters)]);
  }
  const sum = (read: (layer: LayerInfo) => number): number =>
    layers.reduce((total, layer) => total + read(layer), 0);
  const trainable = sum((layer) => layer.trainableParameters);
  const state = sum((layer) => layer.parameters) - trainable;
  const rest = state === 0 ? '' : `, ${count(state)} more that training updates otherwise`;
  return `${table.toString()}\n${count(trainable)} trainable parameters${rest}`;
}
