// What the roofline bench runs: products against the ceiling of arithmetic, streaming kernels against a copy kernel.
// Every case knows the work that cannot be avoided and what some of its values must be.

import { backward, parameter } from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { adamwStep } from "../../lib/ops/adamw_step.ts";
import { add } from "../../lib/ops/add.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask, FULL } from "../../lib/ops/attention_mask.ts";
import { conv2d, padAll } from "../../lib/ops/conv2d.ts";
import { emaStep } from "../../lib/ops/ema_step.ts";
import { sumSquares } from "../../lib/ops/global_norm.ts";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { geluTanh, silu, swiglu } from "../../lib/ops/unary.ts";
import { Tensor } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";

/** A kernel at a shape. */
export interface RooflineCase {
  name: string;
  /** What bounds it: arithmetic, the traffic of a copy, or the rate of our own products. */
  bound: "arithmetic" | "copy" | "matmul";
  /** The share of that bound that is wanted. */
  wanted: number;
  /** Floating-point operations; a multiply-add counts as two. */
  flop: number;
  /** Bytes read and written, each once. */
  bytes: number;
  /** Tensors that it reads. */
  inputs: readonly Tensor[];
  /** Records it once; what it returns is disposed of. */
  run: () => readonly Tensor[];
  /** Value `i` of the first result, in f64. */
  expected: (i: number) => number;
  tolerance: number;
  dispose: () => void;
}

/** A case to be: its tensors are made when it is its turn. */
export type CaseMaker = (gpu: Gpu) => RooflineCase;

const LAYOUTS = {
  NN: { transposeA: false, transposeB: false },
  NT: { transposeA: false, transposeB: true },
  TN: { transposeA: true, transposeB: false },
} as const;

/** Share of the arithmetic ceiling wanted of a product. */
const WANTED = { NN: 0.28, NT: 0.35, TN: 0.28 } as const;

/** A square product of `n` rows, columns and inner values. */
export function matmulCase(layout: keyof typeof LAYOUTS, n: number): CaseMaker {
  return (gpu) => {
    const { transposeA, transposeB } = LAYOUTS[layout];
    const [a, b] = [normals(n * n, 1), normals(n * n, 2)];
    const [x, y] = [a, b].map((data) => Tensor.from(gpu, data, [n, n]));
    const sizes = { rows: n, columns: n, inner: n, transposeA, transposeB };
    return {
      name: `matmul ${layout} ${n}`,
      bound: "arithmetic",
      wanted: WANTED[layout],
      flop: 2 * n ** 3,
      bytes: 12 * n * n,
      inputs: [x, y],
      run: () => [product(x, y, sizes)],
      expected: (at) => {
        const [i, j] = [Math.floor(at / n), at % n];
        let sum = 0;
        for (let k = 0; k < n; k++) {
          sum += a[transposeA ? k * n + i : i * n + k] * b[transposeB ? j * n + k : k * n + j];
        }
        return sum;
      },
      tolerance: 1e-3,
      dispose: () => [x, y].forEach((t) => t.dispose()),
    };
  };
}

const ROWS = 4096;
const COLUMNS = 256;
const SIZE = ROWS * COLUMNS;

interface Streaming {
  name: string;
  /** Tensors of SIZE values read and written. */
  reads: number;
  writes: number;
  run: (xs: Tensor[], weight: Tensor, bias: Tensor) => Tensor[];
  /** From values of the inputs at a place; rows are those of the place. */
  expected: (at: number, xs: Float32Array[], weight: Float32Array) => number;
}

const rowOf = (x: Float32Array, at: number) =>
  x.subarray(COLUMNS * Math.floor(at / COLUMNS), COLUMNS * (Math.floor(at / COLUMNS) + 1));
const total = (x: Float32Array, f: (v: number) => number) => x.reduce((s, v) => s + f(v), 0);
const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
const STREAMING: readonly Streaming[] = [
  {
    name: "add",
    reads: 2,
    writes: 1,
    run: ([x, y]) => [add(x, y)],
    expected: (i, [x, y]) => x[i] + y[i],
  },
  {
    name: "silu",
    reads: 1,
    writes: 1,
    run: ([x]) => [silu(x)],
    expected: (i, [x]) => x[i] * sigmoid(x[i]),
  },
  {
    name: "gelu tanh",
    reads: 1,
    writes: 1,
    run: ([x]) => [geluTanh(x)],
    expected: (i, [x]) => x[i] * sigmoid(1.5957691216057308 * (x[i] + 0.044715 * x[i] ** 3)),
  },
  {
    name: "swiglu",
    reads: 2,
    writes: 1,
    run: ([x, y]) => [swiglu(x, y)],
    expected: (i, [x, y]) => x[i] * sigmoid(x[i]) * y[i],
  },
  {
    name: "softmax",
    reads: 1,
    writes: 1,
    run: ([x]) => [softmax(x)],
    expected: (i, [x]) => Math.exp(x[i]) / total(rowOf(x, i), Math.exp),
  },
  {
    name: "rms_norm",
    reads: 1,
    writes: 1,
    run: ([x], weight) => [rmsNorm(x, weight)],
    expected: (i, [x], w) =>
      x[i] * w[i % COLUMNS] / Math.sqrt(total(rowOf(x, i), (v) => v * v) / COLUMNS + 1e-6),
  },
  {
    name: "layer_norm",
    reads: 1,
    writes: 1,
    run: ([x], weight, bias) => [layerNorm(x, weight, bias)],
    expected: (i, [x], w) => {
      const mean = total(rowOf(x, i), (v) => v) / COLUMNS;
      const variance = total(rowOf(x, i), (v) => (v - mean) ** 2) / COLUMNS;
      return (x[i] - mean) / Math.sqrt(variance + 1e-6) * w[i % COLUMNS];
    },
  },
];

/** Streaming kernels over 4096 rows of 256. */
function streamingCase(given: Streaming): CaseMaker {
  return (gpu) => {
    const data = [normals(SIZE, 3), normals(SIZE, 4)].slice(0, given.reads);
    const xs = data.map((values) => Tensor.from(gpu, values, [ROWS, COLUMNS]));
    const ones = new Float32Array(COLUMNS).fill(1.25);
    const weight = Tensor.from(gpu, ones, [COLUMNS]);
    const bias = Tensor.zeros(gpu, [COLUMNS]);
    return {
      name: `${given.name} ${ROWS} × ${COLUMNS}`,
      bound: "copy",
      wanted: 0.7,
      flop: 0,
      bytes: 4 * SIZE * (given.reads + given.writes),
      inputs: xs,
      run: () => given.run(xs, weight, bias),
      expected: (i) => given.expected(i, data, ones),
      tolerance: 1e-4,
      dispose: () => [...xs, weight, bias].forEach((t) => t.dispose()),
    };
  };
}

/** RMSNorm's backward pass to its input and weight. */
const rmsBackward: CaseMaker = (gpu) => {
  const [a, b] = [normals(SIZE, 5), normals(SIZE, 6)];
  const x = Tensor.from(gpu, a, [ROWS, COLUMNS]);
  const dy = Tensor.from(gpu, b, [ROWS, COLUMNS]);
  const weight = parameter(Tensor.from(gpu, new Float32Array(COLUMNS).fill(1), [COLUMNS]));
  x.requiresGrad = true;
  return {
    name: `rms_norm both ways ${ROWS} × ${COLUMNS}`,
    bound: "copy",
    wanted: 0.7,
    flop: 0,
    bytes: 4 * SIZE * 7, // x and y; x, dy and dx; x and dy for the weight
    inputs: [x, dy],
    run: () => {
      const found = backward(rmsNorm(x, weight), { seeds: [dy], wanted: [x] });
      return [found.get(x)!, found.get(weight)!];
    },
    expected: (i) => {
      const [row, grads] = [rowOf(a, i), rowOf(b, i)];
      const r = 1 / Math.sqrt(total(row, (v) => v * v) / COLUMNS + 1e-6);
      const along = row.reduce((s, v, j) => s + v * grads[j], 0) / COLUMNS;
      return r * (b[i] - a[i] * r * r * along);
    },
    tolerance: 1e-4,
    dispose: () => [x, dy, weight].forEach((t) => t.dispose()),
  };
};

/** One AdamW update over flat parameters. */
const adamw: CaseMaker = (gpu) => {
  const w0 = normals(SIZE, 7);
  const w = Tensor.from(gpu, w0, [SIZE]);
  const g = Tensor.from(gpu, new Float32Array(SIZE).fill(0.5), [SIZE]);
  const [m, v] = [Tensor.zeros(gpu, [SIZE]), Tensor.zeros(gpu, [SIZE])];
  const gradientScale = Tensor.from(gpu, [1], [1]);
  let step = 0;
  return {
    name: `adamw_step ${SIZE}`,
    bound: "copy",
    wanted: 0.7,
    flop: 0,
    bytes: 4 * SIZE * 7,
    inputs: [g],
    run: () => {
      const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 };
      adamwStep(w, g, m, v, { ...options, learningRate: 1e-3, step: ++step, gradientScale });
      return [w.alias()];
    },
    expected: (i) => w0[i] - 1e-3 * step, // a constant gradient moves weights by the rate
    tolerance: 1e-3,
    dispose: () => [w, g, m, v, gradientScale].forEach((t) => t.dispose()),
  };
};

const ema: CaseMaker = (gpu) => {
  const [average, x] = [normals(SIZE, 8), normals(SIZE, 9)];
  const a = Tensor.from(gpu, average, [SIZE]);
  const b = Tensor.from(gpu, x, [SIZE]);
  let steps = 0;
  return {
    name: `ema_step ${SIZE}`,
    bound: "copy",
    wanted: 0.7,
    flop: 0,
    bytes: 4 * SIZE * 3,
    inputs: [b],
    run: () => {
      steps++;
      emaStep(a, b, 0.99);
      return [a.alias()];
    },
    expected: (i) => x[i] + (average[i] - x[i]) * 0.99 ** steps,
    tolerance: 1e-3,
    dispose: () => [a, b].forEach((t) => t.dispose()),
  };
};

const norm: CaseMaker = (gpu) => {
  const data = normals(SIZE, 10);
  const x = Tensor.from(gpu, data, [SIZE]);
  return {
    name: `sum of squares ${SIZE}`,
    bound: "copy",
    wanted: 0.7,
    flop: 0,
    bytes: 4 * SIZE,
    inputs: [x],
    run: () => [sumSquares([x])],
    expected: () => data.reduce((s, v) => s + v * v, 0),
    tolerance: 1e-4,
    dispose: () => x.dispose(),
  };
};

/** Attention within samples of 256 tokens, four heads of 32; the backward pass counts 2.5 forward ones. */
function attentionCase(samples: number, tokens: number, heads: number, size: number): CaseMaker {
  return (gpu) => {
    const n = samples * tokens;
    const data = [11, 12, 13].map((seed) => normals(n * heads * size, seed, 0.5));
    const [q, k, v] = data.map((values) => Tensor.from(gpu, values, [n, heads, size]));
    const sample = Int32Array.from({ length: n }, (_, i) => Math.floor(i / tokens));
    const mask = attentionMask(gpu, { sample, split: sample, mode: new Int32Array(n).fill(FULL) });
    const seed = Tensor.from(gpu, normals(n * heads * size, 14), [n, heads, size]);
    q.requiresGrad = k.requiresGrad = v.requiresGrad = true;
    return {
      name: `attention both ways ${samples} × ${tokens}, ${heads} heads of ${size}`,
      bound: "matmul",
      wanted: 0.5,
      flop: 3.5 * 4 * samples * tokens ** 2 * heads * size,
      bytes: 4 * n * heads * size * 10,
      inputs: [q, k, v, seed],
      run: () => {
        const y = attention(q, k, v, mask);
        const first = y.alias();
        const found = backward(y, { seeds: [seed], wanted: [q, k, v] });
        return [first, ...found.values()];
      },
      expected: (at) => {
        const [i, rest] = [Math.floor(at / (heads * size)), at % (heads * size)];
        const [h, d] = [Math.floor(rest / size), rest % size];
        const from = Math.floor(i / tokens) * tokens;
        let [top, bottom] = [0, 0];
        for (let j = from; j < from + tokens; j++) {
          let dot = 0;
          for (let c = 0; c < size; c++) {
            dot += data[0][(i * heads + h) * size + c] * data[1][(j * heads + h) * size + c];
          }
          const p = Math.exp(dot / Math.sqrt(size));
          bottom += p;
          top += p * data[2][(j * heads + h) * size + d];
        }
        return top / bottom;
      },
      tolerance: 1e-3,
      dispose: () => [q, k, v, seed, mask.table].forEach((t) => t.dispose()),
    };
  };
}

/** A 3 × 3 convolution of one image at a shape of the FLUX autoencoder. */
function convCase(side: number, channels: number): CaseMaker {
  return (gpu) => {
    const x = normals(side * side * channels, 15);
    const w = normals(channels * channels * 9, 16, 0.05);
    const image = Tensor.from(gpu, x, [1, side, side, channels]);
    const weight = Tensor.from(gpu, w, [channels, channels, 3, 3]);
    const bias = Tensor.zeros(gpu, [channels]);
    return {
      name: `conv 3 × 3, ${side} × ${side}, ${channels} channels`,
      bound: "matmul",
      wanted: 0.6,
      flop: 18 * side * side * channels * channels,
      bytes: 4 * (2 * side * side * channels + 9 * channels * channels),
      inputs: [image],
      run: () => [conv2d(image, weight, bias, { padding: padAll(1) })],
      expected: (at) => {
        const [pixel, o] = [Math.floor(at / channels), at % channels];
        const [row, column] = [Math.floor(pixel / side), pixel % side];
        let sum = 0;
        for (let i = -1; i <= 1; i++) {
          for (let j = -1; j <= 1; j++) {
            const [r, c] = [row + i, column + j];
            if (r < 0 || c < 0 || r >= side || c >= side) continue;
            for (let k = 0; k < channels; k++) {
              const tap = w[((o * channels + k) * 3 + i + 1) * 3 + j + 1];
              sum += x[(r * side + c) * channels + k] * tap;
            }
          }
        }
        return sum;
      },
      tolerance: 1e-3,
      dispose: () => [image, weight, bias].forEach((t) => t.dispose()),
    };
  };
}

/** All cases, or a few. */
export function rooflineCases(quick: boolean): CaseMaker[] {
  const layouts = ["NT", "NN", "TN"] as const;
  const sizes = quick ? [512] : [512, 1024];
  return [
    ...layouts.flatMap((layout) => sizes.map((n) => matmulCase(layout, n))),
    attentionCase(4, 256, 4, 32),
    ...(quick ? [] : [attentionCase(1, 1024, 8, 64)]),
    convCase(64, 128),
    ...(quick ? [] : [convCase(32, 512)]),
    ...STREAMING.map(streamingCase),
    rmsBackward,
    adamw,
    ema,
    norm,
  ];
}
