// TensorFlow.js with its WebGPU backend as a contender.
// deno-lint-ignore-file no-import-prefix -- no other file uses these packages, so they stay out of the import map

import * as tf from "npm:@tensorflow/tfjs@4.22.0";
import type { WebGPUBackend } from "npm:@tensorflow/tfjs-backend-webgpu@4.22.0";
import "npm:@tensorflow/tfjs-backend-webgpu@4.22.0";
import { ResourceError } from "../../lib/errors.ts";
import { BLOCK_EPS, type BlockShape } from "./peers_block.ts";
import type { Work } from "./peers_cases.ts";
import { adapterOf, type Engine, listen } from "./peers_engine.ts";

/** Values that stay on the device: an op on them makes the backend submit what it has recorded. */
const FENCE_SIZE = 4096;

/** @throws {ResourceError} If its WebGPU backend does not start */
export async function engine(): Promise<Engine> {
  if (!await tf.setBackend("webgpu")) {
    throw new ResourceError("Cannot compare with TensorFlow.js: its WebGPU backend does not start");
  }
  await tf.ready();
  const errors: string[] = [];
  const { device } = tf.backend() as WebGPUBackend;
  listen(device, errors);
  const fence = tf.neg(tf.zeros([FENCE_SIZE]));
  return {
    name: "tfjs",
    way:
      `@tensorflow/tfjs ${tf.version.tfjs}, webgpu backend: eager, tf.grads and tf.valueAndGrads in tf.tidy`,
    adapter: adapterOf(device),
    errors,
    prepare(work, arrays) {
      const inputs = arrays.map(({ data, shape }) => tf.tensor(data, [...shape]));
      const constants: tf.Tensor[] = [];
      const run = program(work, constants);
      let outputs: tf.Tensor[] = [];
      return {
        launch() {
          tf.dispose(outputs);
          outputs = tf.tidy(() => run(inputs));
        },
        async read() {
          return await Promise.all(outputs.map((t) => t.data())) as Float32Array[];
        },
        dispose() {
          tf.dispose([...inputs, ...outputs, ...constants]);
          outputs = [];
        },
      };
    },
    async settle() {
      const last = tf.neg(fence); // its queue is in order: what comes back was computed last
      await last.data();
      last.dispose();
    },
    close: () => fence.dispose(),
  };
}

type Program = (inputs: tf.Tensor[]) => tf.Tensor[];

/** @param constants gets what the program keeps on the device */
function program(work: Work, constants: tf.Tensor[]): Program {
  if (work.kind === "matmul") {
    const [ta, tb] = [work.layout[0] === "T", work.layout[1] === "T"];
    return ([a, b]) => [tf.matMul(a, b, ta, tb)];
  }
  if (work.kind === "block") return block(work.shape, constants);
  const forward = work.kind === "softmax"
    ? (x: tf.Tensor) => tf.softmax(x)
    : (x: tf.Tensor, weight: tf.Tensor) => rmsNorm(x, weight, 1e-6);
  return (inputs) => {
    let y: tf.Tensor | undefined;
    const gradients = tf.grads((...sources) => y = tf.keep(forward(sources[0], sources[1])));
    const found = gradients(inputs.slice(0, -1), inputs.at(-1)!);
    return [y!, ...found];
  };
}

function rmsNorm(x: tf.Tensor, weight: tf.Tensor, eps: number): tf.Tensor {
  const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), eps));
  return tf.mul(tf.mul(x, inverse), weight);
}

/** GELU, tanh form, as `x σ(2u)`: ½ (1 + tanh u) = σ(2u). */
function gelu(x: tf.Tensor): tf.Tensor {
  const c = 2 * Math.sqrt(2 / Math.PI);
  const u = tf.mul(x, tf.add(tf.mul(tf.square(x), c * 0.044715), c));
  return tf.mul(x, tf.sigmoid(u));
}

function block(shape: BlockShape, constants: tf.Tensor[]): Program {
  const { samples, length, width, heads, causal } = shape;
  const size = width / heads;
  const split = (t: tf.Tensor) =>
    tf.transpose(tf.reshape(t, [samples, length, heads, size]), [0, 2, 1, 3]);
  const linear = (x: tf.Tensor, weight: tf.Tensor) => tf.matMul(x, weight, false, true);
  const later = new Float32Array(length * length).map((_, i) =>
    causal && i % length > Math.floor(i / length) ? -1e9 : 0
  );
  const hidden = tf.tensor(later, [length, length]);
  constants.push(hidden);
  const loss = (
    ...[x, norm1, query, key, value, project, norm2, up, down, weights]: tf.Tensor[]
  ) => {
    const first = rmsNorm(x, norm1, BLOCK_EPS);
    const q = tf.mul(split(linear(first, query)), size ** -0.5);
    const scores = tf.matMul(q, split(linear(first, key)), false, true);
    const shares = tf.softmax(causal ? tf.add(scores, hidden) : scores);
    const mixed = tf.matMul(shares, split(linear(first, value)));
    const joined = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [samples * length, width]);
    const h = tf.add(x, linear(joined, project));
    const y = tf.add(h, linear(gelu(linear(rmsNorm(h, norm2, BLOCK_EPS), up)), down));
    return tf.sum(tf.mul(y, weights)) as tf.Scalar;
  };
  return (inputs) => {
    const weights = inputs.at(-1)!;
    const gradients = tf.valueAndGrads((...sources: tf.Tensor[]) => loss(...sources, weights));
    const { value, grads } = gradients(inputs.slice(0, -1));
    return [value, ...grads];
  };
}
