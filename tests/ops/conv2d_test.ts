import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { conv2d, type ConvOptions, padAll } from "../../lib/ops/conv2d.ts";
import { convBands, type GatherSizes } from "../../lib/ops/conv2d_bands.ts";
import {
  type ConvSizes,
  type ConvVariant,
  gather,
  gatherSizes,
  weightGradient,
} from "../../lib/ops/conv2d_launch.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

interface Case {
  /** images, rows, columns, channels in, channels out, kernel */
  size: [number, number, number, number, number, number];
  options: ConvOptions;
}

const SAME = { padding: padAll(1) };
const DOWN: ConvOptions = { stride: 2, padding: { left: 0, right: 1, top: 0, bottom: 1 } };

const CASES: Case[] = [
  { size: [1, 1, 1, 1, 1, 1], options: {} },
  { size: [2, 3, 5, 8, 12, 1], options: {} },
  { size: [1, 5, 7, 3, 32, 3], options: SAME },
  { size: [2, 4, 3, 32, 3, 3], options: SAME },
  { size: [1, 6, 11, 5, 7, 3], options: SAME },
  { size: [2, 6, 5, 8, 36, 3], options: DOWN },
  { size: [1, 7, 8, 36, 9, 3], options: DOWN },
  { size: [1, 6, 7, 4, 4, 2], options: { padding: { left: 2, right: 0, top: 0, bottom: 1 } } },
];

Deno.test(
  "conv2d() matches the reference for every padding, stride and channel count in use",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const { size: [B, h, w, C, O, k], options } of CASES) {
      await checkOp(gpu, {
        name: `conv2d ${B}x${h}x${w} ${C}->${O} k${k} s${options.stride ?? 1}`,
        inputs: [
          { name: "x", shape: [B, h, w, C] },
          {
            name: "weight",
            shape: [O, C, k, k],
            data: normals(O * C * k * k, 5, 1 / Math.sqrt(C * k * k)),
          },
          { name: "bias", shape: [O] },
        ],
        op: ([x, weight, bias]) => conv2d(x, weight, bias, options),
        reference: ([x, weight, bias]) => reference(x, weight, bias, [B, h, w, C, O, k], options),
        samples: 24,
      });
    }
  },
);

const eightLanes = (await testGpu()).subgroupSize === 8;

Deno.test({
  name: "conv2d_subgroup kernels agree with the plain ones" +
    (eightLanes ? "" : " (skipped: this adapter's subgroups have not eight lanes)"),
  ignore: !eightLanes,
  ...GPU_TEST,
  fn: async () => {
    const gpu = await testGpu();
    // positions around 32, channels around 32, a width of one, two images
    const sizes = [[1, 31, 1, 4, 4, 3, 1], [2, 3, 11, 36, 28, 3, 1], [1, 9, 7, 32, 68, 3, 2], [
      3,
      5,
      5,
      64,
      32,
      1,
      1,
    ]];
    for (const [images, h, w, C, O, kernel, stride] of sizes) {
      const pad = kernel >> 1;
      const [outHeight, outWidth] = [h, w].map((n) =>
        Math.floor((n + 2 * pad - kernel) / stride) + 1
      );
      const s = {
        images,
        inHeight: h,
        inWidth: w,
        outHeight,
        outWidth,
        C,
        O,
        kernel,
        stride,
        left: pad,
        top: pad,
      };
      const make = (seed: number, ...shape: number[]) =>
        Tensor.from(gpu, normals(shape.reduce((n, d) => n * d, 1), seed), shape);
      const x = make(1, images, h, w, C);
      const weight = make(2, O, C, kernel, kernel);
      const bias = make(3, O);
      const dy = make(4, images, outHeight, outWidth, O);
      const run = (variant: ConvVariant) => [
        gather("forward", x, weight, bias, s, variant),
        gather("backward", dy, weight, weight, s, variant),
        weightGradient(x, dy, s, variant),
      ];
      const [plain, ...fast] = await Promise.all(
        (["plain", "subgroup"] as const).map((variant) =>
          Promise.all(run(variant).map((t) => t.floats()))
        ),
      );
      for (const results of fast) {
        for (const [i, what] of ["forward", "dx", "dweight"].entries()) {
          assertClose(results[i], plain[i], FORWARD, `${what} of ${images}x${h}x${w} ${C}->${O}`);
        }
      }
    }
  },
});

Deno.test("conv2d() gives the same bits twice, gradients included", GPU_TEST, async () => {
  const gpu = await testGpu();
  const run = async () => {
    const x = parameter(Tensor.from(gpu, normals(2 * 33 * 20 * 8, 1), [2, 33, 20, 8]));
    const weight = parameter(Tensor.from(gpu, normals(16 * 8 * 9, 2), [16, 8, 3, 3]));
    const bias = parameter(Tensor.from(gpu, normals(16, 3), [16]));
    const grads = tidy(() => {
      const y = conv2d(x, weight, bias, SAME);
      return backward(y, { seeds: [y] });
    });
    const all = await Promise.all([x, weight, bias].map((t) => grads.get(t)!.floats()));
    for (const t of [x, weight, bias, ...grads.values()]) t.dispose();
    return all;
  };
  assert.deepEqual(await run(), await run());
});

Deno.test("conv2d() gives back everything it took", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = parameter(Tensor.from(gpu, normals(5 * 6 * 3, 1), [1, 5, 6, 3]));
  const weight = parameter(Tensor.from(gpu, normals(5 * 3 * 9, 2), [5, 3, 3, 3]));
  const bias = parameter(Tensor.zeros(gpu, [5]));
  const before = gpu.buffers.liveCount;
  conv2d(x, weight, bias, SAME).dispose();
  assert.equal(gpu.buffers.liveCount, before);
});

Deno.test("conv2d() refuses what does not fit, by name", GPU_TEST, async () => {
  const gpu = await testGpu();
  const zeros = (...shape: number[]) => Tensor.zeros(gpu, shape);
  const x = zeros(1, 4, 4, 8);
  assert.throws(() => conv2d(zeros(4, 4, 8), zeros(8, 8, 3, 3), zeros(8)), {
    name: "TypeError",
    message: "Cannot convolve (4, 4, 8) with weight (8, 8, 3, 3): both need four axes",
  });
  assert.throws(() => conv2d(x, zeros(8, 8, 3, 1), zeros(8)), {
    message: "Cannot convolve (1, 4, 4, 8) with weight (8, 8, 3, 1): the kernel is not square",
  });
  assert.throws(() => conv2d(x, zeros(8, 4, 3, 3), zeros(8)), {
    message:
      "Cannot convolve (1, 4, 4, 8) with weight (8, 4, 3, 3): 8 channels, but the weight is for 4",
  });
  assert.throws(() => conv2d(x, zeros(8, 8, 3, 3), zeros(4)), {
    message: "Cannot convolve (1, 4, 4, 8) with weight (8, 8, 3, 3): bias is (4), not (8)",
  });
  assert.throws(() => conv2d(zeros(1, 2, 2, 8), zeros(8, 8, 3, 3), zeros(8)), {
    name: "RangeError",
    message:
      "Cannot convolve (1, 2, 2, 8) with weight (8, 8, 3, 3): the padded image is smaller than the kernel",
  });
});

/** images, rows, columns, channels in, channels out, kernel, stride: rows of 16 bytes and more */
const BANDED = [
  [1, 601, 5, 4, 12, 3, 1],
  [1, 40, 36, 3, 32, 3, 1],
  [2, 64, 16, 36, 9, 3, 2],
  [1, 45, 33, 32, 64, 1, 1],
  [1, 33, 48, 32, 36, 3, 2],
];

/** Sizes as in the model: 3 × 3 padded by one, or right and below where they halve. */
function sizesOf([images, h, w, C, O, kernel, stride]: number[]): ConvSizes {
  const before = stride === 1 ? kernel >> 1 : 0;
  const out = (n: number) => Math.floor((n + before + (kernel >> 1) - kernel) / stride) + 1;
  const [outHeight, outWidth] = [out(h), out(w)];
  const place = { left: before, top: before, inHeight: h, inWidth: w, outHeight, outWidth };
  return { images, C, O, kernel, stride, ...place };
}

Deno.test(
  "convBands() makes each output row once, of rows that bindings reach",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const most = 2 ** 15;
    for (const size of BANDED) {
      for (const forward of [true, false]) {
        const s: GatherSizes = gatherSizes(forward, sizesOf(size));
        const bands = convBands(gpu, s, most);
        assert.ok(bands.length > 1, "the sizes are too large for one band");
        const made: string[] = [];
        for (const { source, target } of bands) {
          for (let r = target.from; r < target.to; r++) made.push(`${target.image} ${r}`);
          for (
            const [rows, height, rowBytes] of [
              [source, s.inHeight, 16 * s.inWidth * s.inQuads],
              [target, s.outHeight, 16 * s.outWidth * s.outQuads],
            ] as const
          ) {
            assert.ok(rows.from >= 0 && rows.from < rows.to && rows.to <= height);
            assert.equal((rows.image * height + rows.from) * rowBytes % 256, 0);
            assert.ok((rows.to - rows.from) * rowBytes <= most);
          }
        }
        const want = Array.from(
          { length: s.images * s.outHeight },
          (_, i) => `${Math.floor(i / s.outHeight)} ${i % s.outHeight}`,
        );
        assert.deepEqual(made, want);
      }
    }
  },
);

Deno.test(
  "gather() gives the same bits in bands as at once, both ways, with every kernel",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const narrow = await narrowGpu(2 ** 17);
    const variants: ConvVariant[] = eightLanes ? ["plain", "subgroup"] : ["plain"];
    for (const size of BANDED.filter(([, , , C]) => C % 4 === 0)) {
      const s = sizesOf(size);
      const quads = (channels: number) => 4 * Math.ceil(channels / 4);
      for (const variant of variants) {
        const run = (on: typeof gpu) => {
          const make = (seed: number, ...shape: number[]) =>
            Tensor.from(on, normals(shape.reduce((n, d) => n * d, 1), seed), shape);
          const x = make(1, s.images, s.inHeight, s.inWidth, quads(s.C));
          const dy = make(4, s.images, s.outHeight, s.outWidth, quads(s.O));
          const weight = make(2, s.O, s.C, s.kernel, s.kernel);
          const bias = make(3, s.O);
          const before = on.dispatches;
          const y = gather("forward", x, weight, bias, s, variant);
          const dx = gather("backward", dy, weight, weight, s, variant);
          return Promise.all([y.floats(), dx.floats(), on.dispatches - before] as const);
        };
        const [whole, banded] = [await run(gpu), await run(narrow)];
        for (const i of [0, 1] as const) {
          assertClose(banded[i], whole[i], 0, `${i ? "dx" : "y"} of ${size} ${variant}`);
        }
        assert.ok(banded[2] >= whole[2] + 2, "several bands each way");
      }
    }
  },
);

Deno.test(
  "conv2d() works in bands without gradients, and refuses them by name",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const narrow = await narrowGpu(2 ** 15);
    const run = (on: typeof gpu) => {
      const x = Tensor.from(on, normals(2 * 48 * 37 * 3, 1), [2, 48, 37, 3]);
      const weight = Tensor.from(on, normals(7 * 27, 2), [7, 3, 3, 3]);
      return conv2d(x, weight, Tensor.zeros(on, [7]), SAME).floats();
    };
    assertClose(await run(narrow), await run(gpu), 0, "in bands");
    const x = Tensor.empty(narrow, [1, 64, 64, 4]);
    const weight = parameter(Tensor.empty(narrow, [8, 4, 3, 3]));
    assert.throws(() => conv2d(x, weight, Tensor.empty(narrow, [8]), SAME), {
      name: "ResourceError",
      message:
        "Cannot convolve (1, 64, 64, 4) with gradients: 131072 B of pixels, one binding of " +
        "this adapter holds 32768 B",
      help: "use noGrad, or fewer or smaller images at a time",
    });
    weight.dispose();
    const plain = Tensor.empty(narrow, [4, 8, 3, 3]);
    const bias = Tensor.empty(narrow, [4]);
    assert.throws(() => conv2d(Tensor.empty(narrow, [1, 9, 512, 8]), plain, bias, SAME), {
      name: "ResourceError",
      message: "Cannot convolve (1, 9, 512, 8): 1 rows with their neighbours do not fit 32768 B, " +
        "one binding of this adapter holds 32768 B",
      help: "use narrower images",
    });
    assert.throws(() => conv2d(Tensor.empty(narrow, [2, 33, 35, 8]), plain, bias, SAME), {
      name: "ResourceError",
      message:
        "Cannot convolve (2, 33, 35, 8) in bands: images do not start at multiples of 256 bytes",
      help: "give such images one at a time",
    });
  },
);

/** The definition, in f64 and channels last. */
function reference(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array,
  [B, h, w, C, O, k]: Case["size"],
  options: ConvOptions,
): Float64Array {
  const s = options.stride ?? 1;
  const { left, right, top, bottom } = options.padding ?? padAll(0);
  const rows = Math.floor((h + top + bottom - k) / s) + 1;
  const cols = Math.floor((w + left + right - k) / s) + 1;
  const y = new Float64Array(B * rows * cols * O);
  let at = 0;
  for (let b = 0; b < B; b++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < cols; j++) {
        for (let o = 0; o < O; o++) {
          let sum = bias[o];
          for (let u = 0; u < k; u++) {
            for (let v = 0; v < k; v++) {
              const [r, q] = [s * i + u - top, s * j + v - left];
              if (r < 0 || q < 0 || r >= h || q >= w) continue;
              for (let c = 0; c < C; c++) {
                sum += x[((b * h + r) * w + q) * C + c] * weight[((o * C + c) * k + u) * k + v];
              }
            }
          }
          y[at++] = sum;
        }
      }
    }
  }
  return y;
}
