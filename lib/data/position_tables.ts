// Sinusoids made on the host: the fixed two-dimensional position tables of images and latents, and the
// features of a timestep.

/**
 * Table of positions on a square grid. Row `r · side + c` is
 * `[sin(c ω) | cos(c ω) | sin(r ω) | cos(r ω)]` with `ω_k = 10000^(-k/q)`, q = dim/4: the column comes
 * first. Computed in f64, stored in f32.
 *
 * @param side rows and columns of the grid
 * @param dim values per position, a multiple of 4
 * @returns (side², dim)
 * @throws {RangeError} If the side is no whole number or dim is not a multiple of 4
 */
export function sinCosTable(side: number, dim: number): Float32Array<ArrayBuffer> {
  if (!Number.isInteger(side) || side < 1) {
    throw new RangeError(`Cannot make a position table with ${side} rows`);
  }
  if (dim % 4 !== 0 || dim === 0) {
    throw new RangeError(`Cannot make a position table of ${dim} channels: not a multiple of 4`);
  }
  const q = dim / 4;
  const axis = new Float32Array(side * 2 * q); // [sin | cos] of every coordinate
  for (let at = 0; at < side; at++) {
    for (let k = 0; k < q; k++) {
      const phase = at * 10000 ** (-k / q);
      axis[2 * q * at + k] = Math.sin(phase);
      axis[2 * q * at + q + k] = Math.cos(phase);
    }
  }
  const table = new Float32Array(side * side * dim);
  for (let r = 0; r < side; r++) {
    for (let c = 0; c < side; c++) {
      const row = (r * side + c) * dim;
      table.set(axis.subarray(2 * q * c, 2 * q * (c + 1)), row);
      table.set(axis.subarray(2 * q * r, 2 * q * (r + 1)), row + 2 * q);
    }
  }
  return table;
}

/** Values {@link timestepFeatures} gives for each timestep. */
export const TIMESTEP_FEATURES = 256;

/**
 * Features of timesteps: `[cos(t f) | sin(t f)]` with `f_i = exp(-ln(10000) i / 128)`, i = 0 … 127.
 * Frequencies and phases are rounded to f32 as in the reference.
 *
 * @param t N timesteps in [0, 1], 1 = noise; not multiplied by 1000
 * @returns (N, 256)
 */
export function timestepFeatures(t: Float32Array): Float32Array<ArrayBuffer> {
  const count = TIMESTEP_FEATURES / 2;
  const step = Math.fround(-Math.log(10000));
  const frequencies = Float32Array.from({ length: count }, (_, i) => {
    return Math.exp(Math.fround(step * i) / count);
  });
  const features = new Float32Array(t.length * TIMESTEP_FEATURES);
  for (let n = 0; n < t.length; n++) {
    for (let i = 0; i < count; i++) {
      const phase = Math.fround(t[n] * frequencies[i]);
      features[n * TIMESTEP_FEATURES + i] = Math.cos(phase);
      features[n * TIMESTEP_FEATURES + count + i] = Math.sin(phase);
    }
  }
  return features;
}
