import type { Evaluation } from '../shared/summary.js';

/** What a worker reports of one evaluation chunk. */
export interface ChunkResult {
  readonly rows: number;
  readonly lossSum: number;
  /** classes x classes counts, row-major; row: true class. */
  readonly confusion: Uint32Array;
}

/**
 * Gathers the chunks of one evaluation. Losses are added in the order of the chunks, whatever the order of
 * their arrival.
 */
export class EvaluationSum {
  readonly chunks: number;
  private readonly rows: number;
  private readonly chunkRows: number;
  private readonly classes: number;
  private readonly results: (ChunkResult | undefined)[];
  private missing: number;

  constructor(rows: number, chunkRows: number, classes: number) {
    this.rows = rows;
    this.chunkRows = chunkRows;
    this.classes = classes;
    this.chunks = Math.ceil(rows / chunkRows);
    this.results = new Array<ChunkResult | undefined>(this.chunks).fill(undefined);
    this.missing = this.chunks;
  }

  get complete(): boolean {
    return this.missing === 0;
  }

  has(chunk: number): boolean {
    return this.results[chunk] !== undefined;
  }

  /** Can this be the result of that chunk? */
  fits(chunk: number, { rows, confusion }: ChunkResult): boolean {
    if (chunk < 0 || chunk >= this.chunks) return false;
    const expected = Math.min(this.chunkRows, this.rows - chunk * this.chunkRows);
    const counted = confusion.reduce((sum, n) => sum + n, 0);
    return rows === expected && counted === rows && confusion.length === this.classes ** 2;
  }

  add(chunk: number, result: ChunkResult): void {
    this.results[chunk] = result;
    this.missing--;
  }

  total(): Evaluation {
    const { classes } = this;
    const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
    let lossSum = 0;
    for (const result of this.results) {
      if (result === undefined) continue;
      lossSum += result.lossSum;
      confusion.forEach((row, truth) => {
        for (let guess = 0; guess < classes; guess++) {
          row[guess] = (row[guess] ?? 0) + (result.confusion[truth * classes + guess] ?? 0);
        }
      });
    }
    const correct = confusion.reduce((sum, row, truth) => sum + (row[truth] ?? 0), 0);
    return { rows: this.rows, loss: lossSum / this.rows, accuracy: correct / this.rows, confusion };
  }
}
