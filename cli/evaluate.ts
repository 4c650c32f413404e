import { Option, type Command } from 'commander';
import { AtelierError } from '../shared/errors.js';
import { evaluationOf, splitRows, SPLITS, type Split } from '../results/split.js';
import { confusionTable } from './terminal.js';
import { datasetOf, openModel, openTrial, parseFold } from './trained.js';

interface EvaluateFlags {
  readonly split: Split;
  readonly fold?: string;
  readonly dataDir?: string;
  readonly json?: boolean;
}

export function addEvaluateCommand(program: Command): void {
  program
    .command('evaluate')
    .description("compute a finished run's loss, accuracy and confusion matrix anew")
    .argument('<run>', 'a run directory')
    .addOption(new Option('--split <split>', 'which rows').choices([...SPLITS]).default('test'))
    .option('--fold <n>', 'which network of a k-fold run (default: the first)')
    .option('--data-dir <folder>', "folder of the dataset's files, when they are elsewhere now")
    .option('--json', 'print {split, rows, loss, accuracy, confusion} as JSON')
    .action(async (directory: string, flags: EvaluateFlags) => evaluate(directory, flags, process.env));
}

async function evaluate(directory: string, flags: EvaluateFlags, env: NodeJS.ProcessEnv): Promise<void> {
  const { run, trial, folder } = openTrial(directory, parseFold(flags.fold));
  const dataset = datasetOf(run, flags.dataDir ?? env['ATELIER_DATA_DIR'] ?? null, env);
  const { images, labels } = splitRows(run, trial, dataset, flags.split);
  const model = await openModel(folder);
  try {
    const { imageShape, classNames } = dataset.info;
    if (model.imageShape.join() !== imageShape.join() || model.classes !== classNames.length) {
      throw new AtelierError('model', `${folder}: the network does not fit the run's dataset`);
    }
    const evaluation = evaluationOf(model.predict(images), labels, model.classes);
    if (flags.json === true) {
      process.stdout.write(`${JSON.stringify({ split: flags.split, ...evaluation })}\n`);
      return;
    }
    const { rows, accuracy, loss } = evaluation;
    process.stdout.write(
      `${confusionTable(evaluation, classNames)}\n\n` +
        `${flags.split} accuracy ${accuracy.toFixed(4)}, loss ${loss.toFixed(4)} on ${rows.toLocaleString('en-US')} images\n`,
    );
  } finally {
    model.dispose();
  }
}
