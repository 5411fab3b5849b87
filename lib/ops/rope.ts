// Rotary position embedding. Angles come from tables made on the host: shader sines are imprecise at the
// large phases of far positions.

import code from "../../kernels/rope.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import type { Gpu } from "../gpu/device.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowBinding, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("rope", { main: code, knobs: ["BLOCK", "pack"] });

const BLOCK = 64;

/** Cosines and sines of every token's angles, each (N, D/2). */
export interface RopeTables {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/**
 * `θ^(-2k/D)` for k = 0 … D/2 - 1, every step rounded to f32 as the reference does: at position 32767
 * the last bit of a frequency moves the angle by 10⁻³.
 *
 * @param headSize D, even
 */
export function inverseFrequencies(headSize: number, theta: number): Float32Array {
  return Float32Array.from({ length: headSize / 2 }, (_, k) => {
    return 1 / Math.fround(theta ** Math.fround(2 * k / headSize));
  });
}

/**
 * Tables for {@link rope}: phases `position · θ^(-2k/D)` in f32, their cosines and sines in f64.
 *
 * @param positions N positions, 0 or more
 * @param headSize D, even
 * @param theta base of the frequencies
 * @throws {RangeError} If D is odd
 */
export function ropeTables(
  gpu: Gpu,
  positions: ArrayLike<number>,
  headSize: number,
  theta: number,
): RopeTables {
  if (headSize % 2 !== 0 || headSize === 0) {
    throw new RangeError(`Cannot rotate heads of ${headSize}: the size must be even`);
  }
  const frequencies = inverseFrequencies(headSize, theta);
  const pairs = frequencies.length;
  const cos = new Float32Array(positions.length * pairs);
  const sin = new Float32Array(positions.length * pairs);
  for (let n = 0; n < positions.length; n++) {
    for (let k = 0; k < pairs; k++) {
      const phase = Math.fround(positions[n] * frequencies[k]);
      cos[n * pairs + k] = Math.cos(phase);
      sin[n * pairs + k] = Math.sin(phase);
    }
  }
  const shape = [positions.length, pairs];
  return { cos: Tensor.from(gpu, cos, shape), sin: Tensor.from(gpu, sin, shape) };
}

/** The rotation, or with direction -1 its inverse. */
function rotate(x: Tensor, { cos, sin }: RopeTables, direction: 1 | -1): Tensor {
  const { gpu } = x;
  const [tokens, heads, headSize] = x.shape;
  const wide = headSize % 8 === 0;
  const pairs = headSize / (wide ? 8 : 2);
  const y = Tensor.empty(gpu, x.shape);
  for (const range of rowRanges(gpu, tokens, [x, cos])) {
    const n = range.count * heads * pairs;
    kernel.run(gpu, {
      buffers: {
        x: rowBinding(x, tokens, range),
        cosine: rowBinding(cos, tokens, range),
        sine: rowBinding(sin, tokens, range),
        y: rowBinding(y, tokens, range),
      },
      params: { n, heads, pairs, direction },
      knobs: { BLOCK, pack: wide ? "vec4f" : "f32" },
      grid: foldGrid(Math.ceil(n / BLOCK)),
    });
  }
  return y;
}

/**
 * Rotates pairs of each head's halves by their token's angles: `y = x · cos + [-x₂ | x₁] · sin` with
 * `x = [x₁ | x₂]` (Su et al. 2021, eq. 34). The gradient is the inverse rotation.
 *
 * @param x (N, H, D)
 * @param tables made by {@link ropeTables} for the N tokens and D
 * @returns (N, H, D)
 * @throws {TypeError} If the tables are for other sizes
 */
export function rope(x: Tensor, tables: RopeTables): Tensor {
  const [tokens, pairs] = tables.cos.shape;
  if (x.shape.length !== 3 || x.shape[0] !== tokens || x.shape[2] !== 2 * pairs) {
    throw new TypeError(
      `Cannot rotate (${x.shape.join(", ")}) with tables of (${tables.cos.shape.join(", ")})`,
    );
  }
  return record(rotate(x, tables, 1), [x], (dy) => [rotate(dy, tables, -1)]);
}
