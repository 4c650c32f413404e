const f = Math.fround;

/**
 * Clipping by the global norm (Pascanu et al. 2013, algorithm 1), in place: a gradient longer than `clipNorm` is scaled
 * down to that length. The norm is a sum of squares in float64, from the first element to the last.
 * @returns the norm before
 */
export function clipByGlobalNorm(gradient: Float32Array, clipNorm: number): number {
  let squares = 0;
  for (let i = 0; i < gradient.length; i++) {
    const value = gradient[i] as number;
    squares += value * value;
  }
  const norm = Math.sqrt(squares);
  if (norm <= clipNorm) return norm;
  const scale = clipNorm / norm;
  for (let i = 0; i < gradient.length; i++) gradient[i] = f((gradient[i] as number) * scale);
  return norm;
}
