// Ops against onnxruntime. A case is one entry of CASES: seeded inputs, our op, and the same as a graph that
// ends in "y". Images are channels last here and channels first in ONNX: `first` and `last` convert.

import { backward, parameter } from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { add } from "../../lib/ops/add.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask } from "../../lib/ops/attention_mask.ts";
import { conv2d } from "../../lib/ops/conv2d.ts";
import { crossEntropy } from "../../lib/ops/cross_entropy.ts";
import { embedding } from "../../lib/ops/gather_rows.ts";
import { groupNorm } from "../../lib/ops/group_norm.ts";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { linear } from "../../lib/ops/linear.ts";
import { matmul } from "../../lib/ops/matmul.ts";
import { mse } from "../../lib/ops/mse.ts";
import { mul } from "../../lib/ops/mul.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { rope, ropeTables } from "../../lib/ops/rope.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { mean } from "../../lib/ops/sum.ts";
import { geluTanh, silu, swiglu } from "../../lib/ops/unary.ts";
import { upsampleNearest2 } from "../../lib/ops/upsample_nearest.ts";
import { readAll, sizeOf, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { int64s, type OnnxInput, type OnnxNode, OPSET, runOnnx } from "../onnx.ts";

interface OracleCase {
  /** What is compared, beginning with our name for it. */
  name: string;
  /** Shapes of the seeded inputs, the same for both sides. */
  inputs: Record<string, number[]>;
  ours: (inputs: Record<string, Tensor>, gpu: Gpu) => Tensor;
  graph: OnnxNode[];
  /** What only the graph needs: axes, labels. */
  constants?: Record<string, OnnxInput>;
  opset?: number;
  tolerance?: number;
}

/** A node with one output. */
function node(
  op: string,
  inputs: string[],
  output: string,
  attributes: OnnxNode["attributes"] = {},
): OnnxNode {
  return { op, inputs, outputs: [output], attributes };
}

const first = (from: string, to: string) => node("Transpose", [from], to, { perm: [0, 3, 1, 2] });
const last = (from: string, to: string) => node("Transpose", [from], to, { perm: [0, 2, 3, 1] });

const LABELS = [3, 0, 10, 7, 7];
const POSITIONS = [0, 1, 2, 17, 300, 5];

const CASES: OracleCase[] = [
  ...[[1, 1, 1], [33, 36, 20], [65, 31, 127], [500, 288, 96]].map(([m, n, k]) => ({
    name: `matmul() NN ${m}x${n}x${k}`,
    inputs: { a: [m, k], b: [k, n] },
    ours: ({ a, b }: Record<string, Tensor>) => matmul(a, b),
    graph: [node("MatMul", ["a", "b"], "y")],
  })),
  ...[[false, true], [true, false], [true, true]].map(([transposeA, transposeB]) => ({
    name: `matmul() ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`,
    inputs: { a: transposeA ? [29, 70] : [70, 29], b: transposeB ? [45, 29] : [29, 45] },
    ours: ({ a, b }: Record<string, Tensor>) => matmul(a, b, { transposeA, transposeB }),
    graph: [node("Gemm", ["a", "b"], "y", { transA: +transposeA, transB: +transposeB })],
  })),
  {
    name: "linear()",
    inputs: { x: [37, 24], weight: [50, 24], bias: [50] },
    ours: ({ x, weight, bias }) => linear(x, weight, bias),
    graph: [node("Gemm", ["x", "weight", "bias"], "y", { transB: 1 })],
  },
  {
    name: "softmax()",
    inputs: { x: [7, 33] },
    ours: ({ x }) => softmax(x),
    graph: [node("Softmax", ["x"], "y", { axis: -1 })],
  },
  {
    name: "layerNorm()",
    inputs: { x: [9, 65], weight: [65], bias: [65] },
    ours: ({ x, weight, bias }) => layerNorm(x, weight, bias, 1e-6),
    graph: [
      node("LayerNormalization", ["x", "weight", "bias"], "y", {
        axis: -1,
        epsilon: { float: 1e-6 },
      }),
    ],
  },
  {
    name: "rmsNorm()",
    inputs: { x: [9, 65], weight: [65] },
    ours: ({ x, weight }) => rmsNorm(x, weight, 1e-6),
    graph: [
      node("RMSNormalization", ["x", "weight"], "y", { axis: -1, epsilon: { float: 1e-6 } }),
    ],
  },
  ...[false, true].map((swish) => ({
    name: `groupNorm()${swish ? " with swish" : ""}`,
    inputs: { x: [2, 5, 3, 16], weight: [16], bias: [16] },
    ours: ({ x, weight, bias }: Record<string, Tensor>) =>
      groupNorm(x, weight, bias, { groups: 4, eps: 1e-6, swish }),
    graph: [
      first("x", "x1"),
      node("GroupNormalization", ["x1", "weight", "bias"], "u", {
        num_groups: 4,
        epsilon: { float: 1e-6 },
      }),
      ...(swish ? [node("Swish", ["u"], "v")] : []),
      last(swish ? "v" : "u", "y"),
    ],
  })),
  {
    name: "geluTanh()",
    inputs: { x: [301] },
    ours: ({ x }) => geluTanh(x),
    graph: [node("Gelu", ["x"], "y", { approximate: "tanh" })],
  },
  {
    name: "silu()",
    inputs: { x: [301] },
    ours: ({ x }) => silu(x),
    graph: [node("Swish", ["x"], "y")],
  },
  {
    name: "swiglu()",
    inputs: { gate: [7, 13], up: [7, 13] },
    ours: ({ gate, up }) => swiglu(gate, up),
    graph: [node("Swish", ["gate"], "s"), node("Mul", ["s", "up"], "y")],
  },
  {
    name: "crossEntropy()",
    inputs: { logits: [5, 11] },
    ours: ({ logits }) => crossEntropy(logits, Int32Array.from(LABELS)),
    graph: [
      node("SoftmaxCrossEntropyLoss", ["logits", "labels"], "y", { reduction: "none" }),
    ],
    constants: { labels: int64s(...LABELS) },
  },
  {
    name: "crossEntropy() with ignored rows",
    inputs: { logits: [5, 11] },
    ours: ({ logits }) => crossEntropy(logits, Int32Array.from(LABELS), { ignore: 7 }),
    graph: [
      node("SoftmaxCrossEntropyLoss", ["logits", "labels"], "y", {
        reduction: "none",
        ignore_index: 7,
      }),
    ],
    constants: { labels: int64s(...LABELS) },
  },
  {
    name: "mse()",
    inputs: { pred: [6, 17], target: [6, 17] },
    ours: ({ pred, target }) => mse(pred, target),
    graph: [
      node("Sub", ["pred", "target"], "d"),
      node("Mul", ["d", "d"], "s"),
      node("ReduceMean", ["s", "axes"], "y", { keepdims: 0 }),
    ],
    constants: { axes: int64s(1) },
  },
  {
    name: "mean() of mul()",
    inputs: { x: [31, 33], z: [31, 33] },
    ours: ({ x, z }) => mean(mul(add(x, z), x)),
    graph: [
      node("Add", ["x", "z"], "s"),
      node("Mul", ["s", "x"], "p"),
      node("ReduceMean", ["p", "axes"], "y", { keepdims: 0 }),
    ],
    constants: { axes: int64s(0, 1) },
  },
  {
    name: "embedding()",
    inputs: { weight: [11, 6] },
    ours: ({ weight }, gpu) => embedding(weight, rowIndex(gpu, Int32Array.from(LABELS), 11)),
    graph: [node("Gather", ["weight", "ids"], "y")],
    constants: { ids: int64s(...LABELS) },
  },
  ...[[1, 0], [3, 1], [3, 2]].map(([size, mode]) => {
    const stride = mode === 2 ? 2 as const : 1 as const;
    const near = mode === 1 ? 1 : 0; // pixels of zeros at the left and top
    const far = mode === 0 ? 0 : 1; // at the right and bottom
    return {
      name: `conv2d() ${size}x${size}, stride ${stride}, padding ${near} and ${far}`,
      inputs: { x: [2, 8, 6, 5], weight: [7, 5, size, size], bias: [7] },
      ours: ({ x, weight, bias }: Record<string, Tensor>) =>
        conv2d(x, weight, bias, {
          stride,
          padding: { left: near, top: near, right: far, bottom: far },
        }),
      graph: [
        first("x", "x1"),
        node("Conv", ["x1", "weight", "bias"], "u", {
          kernel_shape: [size, size],
          strides: [stride, stride],
          pads: [near, near, far, far],
        }),
        last("u", "y"),
      ],
    };
  }),
  {
    name: "upsampleNearest2()",
    inputs: { x: [1, 3, 5, 8] },
    ours: ({ x }) => upsampleNearest2(x),
    graph: [
      first("x", "x1"),
      node("Resize", ["x1", "", "scales"], "u", {
        mode: "nearest",
        coordinate_transformation_mode: "asymmetric",
        nearest_mode: "floor",
      }),
      last("u", "y"),
    ],
    constants: { scales: { shape: [4], data: Float32Array.of(1, 1, 2, 2) } },
  },
  {
    name: "rope()",
    inputs: { x: [POSITIONS.length, 3, 8] },
    ours: ({ x }, gpu) => rope(x, ropeTables(gpu, POSITIONS, 8, 1e4)),
    graph: [
      node("Unsqueeze", ["x", "front"], "x4"), // (1, N, H, D)
      node("Transpose", ["x4"], "x1", { perm: [0, 2, 1, 3] }),
      node("RotaryEmbedding", ["x1", "cos", "sin"], "r"),
      node("Transpose", ["r"], "r4", { perm: [0, 2, 1, 3] }),
      node("Squeeze", ["r4", "front"], "y"),
    ],
    constants: { front: int64s(0), ...ropeCache(POSITIONS, 8, 1e4) },
  },
  ...[true, false].map((causal) => ({
    name: `attention() ${causal ? "causal" : "full"}, grouped queries`,
    inputs: { q: [37, 4, 8], k: [37, 2, 8], v: [37, 2, 8] },
    ours: ({ q, k, v }: Record<string, Tensor>, gpu: Gpu) => {
      const zeros = new Int32Array(37);
      const mode = new Int32Array(37).fill(causal ? 0 : 1);
      return attention(q, k, v, attentionMask(gpu, { sample: zeros, split: zeros, mode }));
    },
    graph: [
      node("Reshape", ["q", "wide"], "q3"),
      node("Reshape", ["k", "narrow"], "k3"),
      node("Reshape", ["v", "narrow"], "v3"),
      node("Attention", ["q3", "k3", "v3"], "a", {
        is_causal: +causal,
        q_num_heads: 4,
        kv_num_heads: 2,
      }),
      node("Reshape", ["a", "heads"], "y"),
    ],
    constants: { wide: int64s(1, 37, 32), narrow: int64s(1, 37, 16), heads: int64s(37, 4, 8) },
    opset: 23,
  })),
];

/** The caches RotaryEmbedding takes, (1, N, D/2), one row per token. */
function ropeCache(positions: number[], size: number, theta: number): Record<string, OnnxInput> {
  const pairs = size / 2;
  const phases = positions.flatMap((p) =>
    Array.from({ length: pairs }, (_, k) => p * theta ** (-2 * k / size))
  );
  const shape = [1, positions.length, pairs];
  return {
    cos: { shape, data: Float32Array.from(phases, Math.cos) },
    sin: { shape, data: Float32Array.from(phases, Math.sin) },
  };
}

/** f32 tensors of seeded values for the named shapes. */
function seeded(shapes: Record<string, number[]>): Record<string, OnnxInput> {
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => [
      name,
      { shape, data: normals(sizeOf(shape), 100 + i) },
    ]),
  );
}

for (const test of CASES) {
  Deno.test(`${test.name} agrees with onnxruntime`, GPU_TEST, async () => {
    const gpu = await testGpu();
    const host = seeded(test.inputs);
    const feeds = { ...host, ...test.constants };
    const { y: want } = await runOnnx(test.graph, feeds, ["y"], test.opset ?? OPSET);
    const y = tidy(() => {
      const tensors = Object.entries(host).map(([name, { data, shape }]) =>
        [name, Tensor.from(gpu, data as Float32Array, shape)] as const
      );
      return test.ours(Object.fromEntries(tensors), gpu);
    });
    const got = await y.floats();
    y.dispose();
    assertClose(got, want.data, test.tolerance ?? FORWARD, test.name);
  });
}

Deno.test("linear() has the gradients onnxruntime computes", GPU_TEST, async () => {
  const gpu = await testGpu();
  const host = seeded({ x: [131, 24], weight: [50, 24], bias: [50], dy: [131, 50] });
  const want = await runOnnx(
    [
      node("MatMul", ["dy", "weight"], "dx"),
      node("Gemm", ["dy", "x"], "dweight", { transA: 1 }),
      node("ReduceSum", ["dy", "axes"], "dbias", { keepdims: 0 }),
    ],
    { x: host.x, weight: host.weight, dy: host.dy, axes: int64s(0) },
    ["dx", "dweight", "dbias"],
  );
  const [x, weight, bias] = ["x", "weight", "bias"].map((name) =>
    parameter(Tensor.from(gpu, host[name].data as Float32Array, host[name].shape))
  );
  const grads = tidy(() => {
    const dy = Tensor.from(gpu, host.dy.data as Float32Array, host.dy.shape);
    return backward(linear(x, weight, bias), { seeds: [dy] });
  });
  const got = await readAll([x, weight, bias].map((t) => grads.get(t)!));
  ["dx", "dweight", "dbias"].forEach((name, i) =>
    assertClose(got[i], want[name].data, FORWARD, name)
  );
  for (const t of [x, weight, bias, ...grads.values()]) t.dispose();
});
