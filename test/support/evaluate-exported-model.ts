/**
 * What someone without Atelier does with an exported model: loads it with plain tfjs-node, and counts how many
 * test images of an IDX folder it gets right. Prints `{"rows", "correct"}`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-node';

const [modelFolder = '', dataFolder = ''] = process.argv.slice(2);
const model = await tf.loadLayersModel(`file://${join(modelFolder, 'model.json')}`);
const images = readFileSync(join(dataFolder, 't10k-images-idx3-ubyte'));
const labels = readFileSync(join(dataFolder, 't10k-labels-idx1-ubyte')).subarray(8);
const rows = images.readUInt32BE(4);
const pixels = tf.tensor4d(Float32Array.from(images.subarray(16)), [rows, 28, 28, 1]).div(255);
const probabilities = model.predict(pixels) as tf.Tensor2D;
const predictions = await probabilities.argMax(1).data();
const sums = await probabilities.sum(1).data();
const correct = Array.from(predictions).filter((guess, i) => guess === labels[i]).length;
const isDistribution = Array.from(sums).every((sum) => Math.abs(sum - 1) < 1e-5);
process.stdout.write(JSON.stringify({ rows, correct, isDistribution }));
