// The small cases of each kernel family: shapes that leave a tail in every tile, and those the vectorized
// paths take.

import { add } from "../ops/add.ts";
import { affine } from "../ops/affine.ts";
import { attention } from "../ops/attention.ts";
import { attentionMask } from "../ops/attention_mask.ts";
import { axpy } from "../ops/axpy.ts";
import { toChannelsLast } from "../ops/channels.ts";
import { conv2d } from "../ops/conv2d.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { embedding, gatherRows } from "../ops/gather_rows.ts";
import { groupNorm } from "../ops/group_norm.ts";
import { latentSample } from "../ops/latent_sample.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import { mergeRows } from "../ops/merge_rows.ts";
import { mse } from "../ops/mse.ts";
import { mul } from "../ops/mul.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rope, ropeTables } from "../ops/rope.ts";
import { rowIndex } from "../ops/row_index.ts";
import { softmax } from "../ops/softmax.ts";
import { mean } from "../ops/sum.ts";
import { abs, exp, geluTanh, silu, softplus, swiglu } from "../ops/unary.ts";
import { upsampleConvolve } from "../ops/upsample_convolve.ts";
import { upsampleNearest2 } from "../ops/upsample_nearest.ts";
import { CACHED_CASES } from "./family_cache.ts";
import type { FamilyCase, FamilyInput } from "./family_check.ts";
import { FUSED_CASES } from "./family_fused.ts";
import { PACKED_CASES } from "./family_packed.ts";
import {
  attentionReference,
  byRow,
  convReference,
  type ConvShape,
  crossEntropyReference,
  geluOf,
  groupNormReference,
  layerNormReference,
  matmulReference,
  rmsNormReference,
  ropeReference,
  siluOf,
  softmaxReference,
} from "./family_references.ts";

const EPS = 1e-6;
const of = (...shape: number[]): FamilyInput => ({ shape });

/** Cases of a family; `variants` where the kernels differ between kinds of adapters. */
export const FAMILY_CASES: Record<string, { cases: FamilyCase[]; variants?: boolean }> = {
  "linear": {
    cases: [linearCase(37, 24, 18), linearCase(3, 5, 7), linearCase(3, 96, 37)],
    variants: true,
  },
  "packed weights": { cases: PACKED_CASES, variants: true },
  "attention": {
    cases: [attentionCase(2, 1, 16), attentionCase(2, 2, 72), attentionCase(1, 1, 6)],
    variants: true,
  },
  "cached attention": { cases: CACHED_CASES, variants: true },
  "norms": {
    cases: [13, 64].flatMap((cols): FamilyCase[] => [{
      name: `RMS of ${cols}`,
      inputs: [of(9, cols), of(cols)],
      op: ([x, w]) => rmsNorm(x, w, EPS),
      reference: (inputs) => rmsNormReference(inputs, EPS),
    }, {
      name: `layer of ${cols}`,
      inputs: [of(9, cols), of(cols), of(cols)],
      op: ([x, w, b]) => layerNorm(x, w, b, EPS),
      reference: (inputs) => layerNormReference(inputs, EPS),
    }]),
    variants: true,
  },
  "softmax": { cases: [7, 68].map(softmaxCase), variants: true },
  "cross-entropy": { cases: [11, 260].map(crossEntropyCase), variants: true },
  "squared error": {
    cases: [{
      name: "rows of 12",
      inputs: [of(5, 12), of(5, 12)],
      op: ([x, y]) => mse(x, y),
      reference: ([x, y]) =>
        byRow(x, 12, (row, r) => [
          row.reduce((sum, v, c) => sum + (v - y[12 * r + c]) ** 2, 0) / 12,
        ]),
    }],
    variants: true,
  },
  "rope": { cases: [6, 16].map(ropeCase) },
  "fused": { cases: FUSED_CASES, variants: true },
  "activations": { cases: activationCases() },
  "sums and products": { cases: pointwiseCases() },
  "gather and merge": { cases: rowCases() },
  "convolution": { cases: convCases(), variants: true },
  "group norm": {
    cases: [false, true].map((swish) => ({
      name: swish ? "with swish" : "plain",
      inputs: [of(2, 9, 9, 24), of(24), of(24)],
      op: ([x, w, b]) => groupNorm(x, w, b, { groups: 6, eps: EPS, swish }),
      reference: (inputs) => groupNormReference(inputs, [2, 81, 6], EPS, swish),
    })),
  },
  "upsampling and layout": { cases: layoutCases() },
};

function linearCase(rows: number, inner: number, columns: number): FamilyCase {
  return {
    name: `${rows}x${inner} to ${columns}`,
    inputs: [of(rows, inner), of(columns, inner), of(columns)],
    op: ([x, w, b]) => linear(x, w, b),
    reference: ([x, w, b]) =>
      matmulReference([x, w], [rows, columns, inner], [false, true])
        .map((v, i) => v + b[i % columns]),
  };
}

/** Two samples of text, a clean and a noised image. */
function attentionCase(heads: number, keyHeads: number, size: number): FamilyCase {
  const splits = [[0, 5, 0], [0, 9, 1], [0, 3, 0], [0, 12, 2], [1, 7, 0], [1, 6, 2]];
  const each = (value: (split: number[], s: number) => number) =>
    Int32Array.from(splits.flatMap((split, s) => Array(split[1]).fill(value(split, s))));
  const tokens = {
    sample: each(([sample]) => sample),
    split: each((_, s) => s),
    mode: each(([, , mode]) => mode),
  };
  const n = tokens.sample.length;
  return {
    name: `${heads} heads of ${size} on ${keyHeads}`,
    inputs: [of(n, heads, size), of(n, keyHeads, size), of(n, keyHeads, size)],
    op: ([q, k, v], gpu) => attention(q, k, v, attentionMask(gpu, tokens)),
    reference: (inputs) => attentionReference(inputs, tokens, [heads, keyHeads, size]),
  };
}

function softmaxCase(cols: number): FamilyCase {
  return {
    name: `rows of ${cols}`,
    inputs: [of(6, cols)],
    op: ([x]) => softmax(x),
    reference: ([x]) => softmaxReference(x, cols),
  };
}

function crossEntropyCase(cols: number): FamilyCase {
  const labels = Int32Array.from([0, 3, cols - 1, 5, 1, 3, 8]);
  return {
    name: `${cols} classes`,
    inputs: [of(labels.length, cols)],
    op: ([x]) => crossEntropy(x, labels),
    reference: ([x]) => crossEntropyReference(x, labels),
  };
}

function ropeCase(size: number): FamilyCase {
  const positions = [0, 1, 2, 2, 2, 17, 40];
  return {
    name: `heads of ${size}`,
    inputs: [of(positions.length, 3, size)],
    op: ([x], gpu) => rope(x, ropeTables(gpu, positions, size, 1e4)),
    reference: ([x]) => ropeReference(x, positions, [3, size], 1e4),
  };
}

function activationCases(): FamilyCase[] {
  return [
    { name: "SiLU", inputs: [of(131)], op: ([x]) => silu(x), reference: ([x]) => x.map(siluOf) },
    {
      name: "GELU",
      inputs: [of(131)],
      op: ([x]) => geluTanh(x),
      reference: ([x]) => x.map(geluOf),
    },
    {
      name: "softplus",
      inputs: [of(131)],
      op: ([x]) => softplus(x),
      reference: ([x]) => x.map((v) => Math.log1p(Math.exp(v))),
    },
    { name: "exp", inputs: [of(131)], op: ([x]) => exp(x), reference: ([x]) => x.map(Math.exp) },
    { name: "abs", inputs: [of(131)], op: ([x]) => abs(x), reference: ([x]) => x.map(Math.abs) },
    {
      name: "SwiGLU",
      inputs: [of(7, 19), of(7, 19)],
      op: ([gate, up]) => swiglu(gate, up),
      reference: ([gate, up]) => gate.map((g, i) => siluOf(g) * up[i]),
    },
  ];
}

function pointwiseCases(): FamilyCase[] {
  const pair = [of(5, 27), of(5, 27)];
  return [
    {
      name: "sum",
      inputs: pair,
      op: ([x, y]) => add(x, y),
      reference: ([x, y]) => x.map((v, i) => v + y[i]),
    },
    {
      name: "product",
      inputs: pair,
      op: ([x, y]) => mul(x, y),
      reference: ([x, y]) => x.map((v, i) => v * y[i]),
    },
    {
      name: "scaled sum",
      inputs: pair,
      op: ([x, y]) => affine(axpy(-0.7, x, y), 1.5, 0.25),
      reference: ([x, y]) => x.map((v, i) => 1.5 * (y[i] - 0.7 * v) + 0.25),
    },
    {
      name: "latents",
      inputs: [...pair, { ...of(5, 27), fixed: true }],
      op: ([m, s, e]) => latentSample(m, s, e, { scale: 0.36, shift: 0.12 }),
      reference: ([m, s, e]) => m.map((v, i) => (v + Math.exp(s[i] / 2) * e[i] - 0.12) * 0.36),
    },
    {
      name: "mean of 70 000",
      inputs: [of(70_000)],
      op: ([x]) => mean(mul(x, x)),
      reference: ([x]) => [x.reduce((sum, v) => sum + v * v, 0) / x.length],
    },
  ];
}

function rowCases(): FamilyCase[] {
  const repeated = [4, 1, 1, 6, 4, 4, 0, 3];
  const [first, second] = [[5, 0, 3, 8], [1, 9, 7]];
  const pick = (x: Float64Array, cols: number, ids: number[]) =>
    ids.flatMap((id) => [...x.subarray(id * cols, (id + 1) * cols)]);
  return [5, 12].flatMap((cols): FamilyCase[] => [{
    name: `repeated rows of ${cols}`,
    inputs: [of(7, cols)],
    op: ([x], gpu) => embedding(x, rowIndex(gpu, Int32Array.from(repeated), 7)),
    reference: ([x]) => pick(x, cols, repeated),
  }, {
    name: `distinct rows of ${cols}`,
    inputs: [of(9, cols)],
    op: ([x], gpu) => gatherRows(x, rowIndex(gpu, Int32Array.from(first), 9)),
    reference: ([x]) => pick(x, cols, first),
  }, {
    name: `merged rows of ${cols}`,
    inputs: [of(4, cols), of(3, cols)],
    op: ([x, y], gpu) => {
      const [a, b] = [first, second].map((ids) => rowIndex(gpu, Int32Array.from(ids), 10));
      return mergeRows([x, y], [a, b], 10);
    },
    reference: ([x, y]) => {
      const z = new Float64Array(10 * cols);
      first.forEach((id, i) => z.set(x.subarray(i * cols, (i + 1) * cols), id * cols));
      second.forEach((id, i) => z.set(y.subarray(i * cols, (i + 1) * cols), id * cols));
      return z;
    },
  }]);
}

function convCases(): FamilyCase[] {
  const same = { stride: 1, before: 1, after: 1, kernel: 3 };
  const sizes: ConvShape[] = [
    { images: 2, h: 5, w: 7, C: 12, O: 20, ...same },
    { images: 1, h: 6, w: 5, C: 3, O: 5, ...same },
    { images: 1, h: 6, w: 8, C: 16, O: 17, kernel: 3, stride: 2, before: 0, after: 1 },
    { images: 2, h: 3, w: 3, C: 36, O: 33, kernel: 1, stride: 1, before: 0, after: 0 },
  ];
  return sizes.map((s) => ({
    name: `${s.kernel}x${s.kernel} by ${s.stride}, ${s.C} to ${s.O}`,
    inputs: [of(s.images, s.h, s.w, s.C), of(s.O, s.C, s.kernel, s.kernel), of(s.O)],
    op: ([x, w, b]) => {
      const padding = { left: s.before, top: s.before, right: s.after, bottom: s.after };
      return conv2d(x, w, b, { stride: s.stride as 1 | 2, padding });
    },
    reference: (inputs) => convReference(inputs, s),
  }));
}

/** An image doubled by repeating pixels, in f64. */
function doubled(x: Float64Array, w: number, C: number): Float64Array {
  const y = new Float64Array(4 * x.length);
  for (let i = 0; i < y.length; i++) {
    const [c, column] = [i % C, Math.floor(i / C) % (2 * w)];
    const row = Math.floor(i / (C * 2 * w)); // over images: 2h is even, so halving stays inside
    y[i] = x[(Math.floor(row / 2) * w + Math.floor(column / 2)) * C + c];
  }
  return y;
}

function layoutCases(): FamilyCase[] {
  const [h, w, C] = [3, 5, 8];
  const fixed = (...shape: number[]): FamilyInput => ({ shape, fixed: true });
  return [{
    name: "twice the size",
    inputs: [of(2, h, w, C)],
    op: ([x]) => upsampleNearest2(x),
    reference: ([x]) => doubled(x, w, C),
  }, {
    name: "twice the size, convolved",
    inputs: [fixed(2, h, w, C), fixed(12, C, 3, 3), fixed(12)],
    op: ([x, weight, bias]) => upsampleConvolve(x, weight, bias),
    reference: ([x, weight, bias]) =>
      convReference([doubled(x, w, C), weight, bias], {
        images: 2,
        h: 2 * h,
        w: 2 * w,
        C,
        O: 12,
        kernel: 3,
        stride: 1,
        before: 1,
        after: 1,
      }),
  }, {
    name: "channels last",
    inputs: [of(2, C, h, w)],
    op: ([x]) => toChannelsLast(x),
    reference: ([x]) => {
      const y = new Float64Array(x.length);
      for (let b = 0; b < 2; b++) {
        for (let c = 0; c < C; c++) {
          for (let p = 0; p < h * w; p++) y[(b * h * w + p) * C + c] = x[(b * C + c) * h * w + p];
        }
      }
      return y;
    },
  }];
}
