import { Option, type Command } from 'commander';
import { AtelierError } from '../shared/errors.js';
import { decodeImages } from '../results/images/decode.js';
import { prepareImage, type Invert } from '../results/images/prepare.js';
import { openModel, openTrial, parseFold } from './trained.js';

/** Classes named for each image in the text. */
const TOP_CLASSES = 3;

interface PredictFlags {
  readonly run?: string;
  readonly model?: string;
  readonly fold?: string;
  readonly invert: Invert;
  readonly json?: boolean;
}

interface Prediction {
  readonly file: string;
  /** Row of an IDX file; 0 for an image. */
  readonly row: number;
  readonly class: number;
  readonly name: string;
  readonly probability: number;
  /** By name of the class. */
  readonly probabilities: Readonly<Record<string, number>>;
  /** What was done to the image to make it fit. */
  readonly notes: readonly string[];
}

export function addPredictCommand(program: Command): void {
  program
    .command('predict')
    .description('say what is on images: PNG, JPEG, or rows of an IDX file')
    .argument('<files...>', 'the images')
    .option('--run <folder>', 'a run directory, whose network is used')
    .option('--model <folder>', 'instead of a run: a folder with model.json and its weights')
    .option('--fold <n>', 'which network of a k-fold run (default: the first)')
    .addOption(
      new Option('--invert <when>', 'turn dark on light into light on dark; auto: when the border is light')
        .choices(['auto', 'yes', 'no'])
        .default('auto'),
    )
    .option('--json', 'print a JSON array with all probabilities')
    .action(async (files: string[], flags: PredictFlags) => {
      const predictions = await predict(files, flags);
      process.stdout.write(flags.json === true ? `${JSON.stringify(predictions)}\n` : textOf(predictions));
    });
}

async function predict(files: readonly string[], flags: PredictFlags): Promise<Prediction[]> {
  const { folder, classNames } = chooseModel(flags);
  const images = files.flatMap((file) => decodeImages(file).map((raster, row) => ({ file, row, raster })));
  const model = await openModel(folder);
  try {
    const [height, width, channels] = model.imageShape;
    const size = height * width * channels;
    const pixels = new Uint8Array(images.length * size);
    const prepared = images.map(({ file, row, raster }, i) => {
      const { pixels: image, notes } = prepareImage(raster, model.imageShape, flags.invert);
      pixels.set(image, i * size);
      return { file, row, notes };
    });
    const all = model.predict(pixels);
    return prepared.map(({ file, row, notes }, i) => {
      const ranked = [...all.subarray(i * model.classes, (i + 1) * model.classes)]
        .map((probability, guess) => ({ guess, name: classNames[guess] ?? String(guess), probability }))
        .sort((a, b) => b.probability - a.probability);
      const { guess = -1, name = '', probability = 0 } = ranked[0] ?? {};
      const probabilities = Object.fromEntries(ranked.map((each) => [each.name, each.probability]));
      return { file, row, class: guess, name, probability, probabilities, notes };
    });
  } finally {
    model.dispose();
  }
}

function chooseModel({ run, model, fold }: PredictFlags): { folder: string; classNames: readonly string[] } {
  if (run !== undefined && model === undefined) {
    const chosen = openTrial(run, parseFold(fold));
    return { folder: chosen.folder, classNames: chosen.run.manifest.dataset.classNames };
  }
  if (model !== undefined && run === undefined) return { folder: model, classNames: [] };
  throw new AtelierError('usage', 'name one network: --run RUN, or --model FOLDER');
}

function textOf(predictions: readonly Prediction[]): string {
  const several = new Set(predictions.filter(({ row }) => row > 0).map(({ file }) => file));
  return predictions
    .map(({ file, row, probabilities, notes }) => {
      const best = Object.entries(probabilities)
        .sort(([, a], [, b]) => b - a)
        .slice(0, TOP_CLASSES)
        .map(([name, probability]) => `${name} ${probability.toFixed(4)}`);
      const what = several.has(file) ? `${file}[${row}]` : file;
      return [`${what}  ${best.join('  ')}`, ...notes.map((note) => `    ${note}`)].join('\n') + '\n';
    })
    .join('');
}
