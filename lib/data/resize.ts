// Bicubic resize, bit for bit as Pillow does it on 8-bit images: separable, antialiased when
// shrinking, weights in 22-bit fixed point, rounded to 8 bits between the two passes. The image
// tensors that the reference was trained on come out of exactly this arithmetic.

/** An 8-bit image, rows from the top, channels interleaved: (h, w, C). */
export interface Image {
  width: number;
  height: number;
  data: Uint8Array;
}

const BITS = 22;

/** The weights of one axis: output i sums `count[i]` inputs from `first[i]` on. */
interface Taps {
  first: Int32Array;
  count: Int32Array;
  /** (outputs, stride), integers: weight · 2²². */
  weights: Int32Array;
  stride: number;
}

/** Keys' cubic with a = -1/2, support 2. */
function cubic(x: number): number {
  const t = Math.abs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

function taps(from: number, to: number): Taps {
  const scale = from / to;
  const spread = Math.max(scale, 1);
  const support = 2 * spread;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  const row = new Float64Array(stride);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const lo = Math.max(0, Math.trunc(centre - support + 0.5));
    const hi = Math.min(from, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let x = lo; x < hi; x++) sum += row[x - lo] = cubic((x - centre + 0.5) / spread);
    for (let x = 0; x < hi - lo; x++) {
      const w = row[x] / sum * (1 << BITS);
      weights[i * stride + x] = Math.trunc(w < 0 ? w - 0.5 : w + 0.5);
    }
    first[i] = lo;
    count[i] = hi - lo;
  }
  return { first, count, weights, stride };
}

/** Resamples the middle axis of (outer, from, inner). */
function pass(
  source: Uint8Array,
  outer: number,
  from: number,
  to: number,
  inner: number,
): Uint8Array {
  const { first, count, weights, stride } = taps(from, to);
  const out = new Uint8ClampedArray(outer * to * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < to; i++) {
      const target = (o * to + i) * inner;
      const start = (o * from + first[i]) * inner;
      for (let c = 0; c < inner; c++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0; k < count[i]; k++) {
          sum += source[start + k * inner + c] * weights[i * stride + k];
        }
        out[target + c] = sum >> BITS;
      }
    }
  }
  return new Uint8Array(out.buffer);
}

/**
 * Resizes to `width` × `height` with Pillow's bicubic filter; horizontal pass first, a pass whose
 * size is unchanged is skipped.
 *
 * @param image (h, w, C) of any number of channels
 * @throws {RangeError} If a size is not a positive integer
 * @throws {TypeError} If the data does not fill the image
 */
export function resizeBicubic(image: Image, width: number, height: number): Image {
  for (const n of [image.width, image.height, width, height]) {
    if (!Number.isInteger(n) || n < 1) {
      throw new RangeError(
        `Cannot resize ${image.width}x${image.height} to ${width}x${height}: sizes are integers of at least 1`,
      );
    }
  }
  const channels = image.data.length / (image.width * image.height);
  if (!Number.isInteger(channels) || channels < 1) {
    throw new TypeError(
      `Cannot resize ${image.width}x${image.height}: its data has ${image.data.length} bytes`,
    );
  }
  let data = image.data;
  if (width !== image.width) data = pass(data, image.height, image.width, width, channels);
  if (height !== image.height) data = pass(data, 1, image.height, height, width * channels);
  return { width, height, data: data === image.data ? data.slice() : data };
}
