import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';
import { launchChromium } from './chromium.js';

/**
 * Probabilities of 28 x 28 images, by tfjs's own scripts on its own backend in a page.
 * @param model a folder with model.json and weights.bin
 * @returns rows x classes
 */
export async function predictInChromium(model: string, pixels: Uint8Array): Promise<number[][]> {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    for (const name of ['core', 'backend-cpu', 'layers']) {
      const bundle = join('node_modules', '@tensorflow', `tfjs-${name}`, 'dist', `tf-${name}.min.js`);
      await page.addScriptTag({ path: join(PROJECT_ROOT, bundle) });
    }
    const argument = {
      json: readFileSync(join(model, 'model.json'), 'utf8'),
      weights: readFileSync(join(model, 'weights.bin')).toString('base64'),
      pixels: Buffer.from(pixels).toString('base64'),
    };
    return await page.evaluate<number[][]>(`(${PREDICT_IN_PAGE})(${JSON.stringify(argument)})`);
  } finally {
    await browser.close();
  }
}

const PREDICT_IN_PAGE = `async ({ json, weights, pixels }) => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const { modelTopology, weightsManifest } = JSON.parse(json);
  const load = async () => ({
    modelTopology,
    weightSpecs: weightsManifest.flatMap((group) => group.weights),
    weightData: bytes(weights).buffer,
  });
  const model = await tf.loadLayersModel({ load });
  const images = tf.tensor(Float32Array.from(bytes(pixels)), [bytes(pixels).length / 784, 28, 28, 1]);
  return model.predict(tf.div(images, 255)).array();
}`;
