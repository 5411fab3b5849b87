// jax-js with its WebGPU backend as a contender. It is lazy: an array is computed when its values or its buffer are
// asked for, so every launch asks for the buffers of all outputs.
// deno-lint-ignore-file no-import-prefix -- no other file uses these packages, so they stay out of the import map

import * as jax from "npm:@jax-js/jax@0.1.25";
import { ResourceError } from "../../lib/errors.ts";
import { BLOCK_EPS, type BlockShape } from "./peers_block.ts";
import type { HostArray, Work } from "./peers_cases.ts";
import { adapterOf, type Engine, listen } from "./peers_engine.ts";

const np = jax.numpy;
type Program = (...inputs: jax.Array[]) => jax.Array[];

/** @throws {ResourceError} If its WebGPU backend does not start */
export async function engine(): Promise<Engine> {
  const started = await jax.init("webgpu");
  if (!started.includes("webgpu")) {
    throw new ResourceError("Cannot compare with jax-js: its WebGPU backend does not start");
  }
  jax.defaultDevice("webgpu");
  const errors: string[] = [];
  listen(jax.getWebGPUDevice(), errors);
  const upload = ({ data, shape }: HostArray) =>
    np.array(data as Float32Array<ArrayBuffer>, { shape: [...shape] });
  const fence = upload({ data: new Float32Array(1024), shape: [1024] });
  return {
    name: "jax-js",
    way:
      "@jax-js/jax 0.1.25, webgpu: jax.jit around the whole, jax.vjp and jax.valueAndGrad inside",
    adapter: adapterOf(jax.getWebGPUDevice()),
    errors,
    prepare(work, arrays) {
      const inputs = arrays.map(upload);
      const run = jax.jit(program(work));
      let outputs: jax.Array[] = [];
      const free = () => {
        for (const array of outputs) array.dispose();
        outputs = [];
      };
      return {
        launch() {
          free();
          outputs = run(...inputs.map((array) => array.ref));
          for (const array of outputs) array.ref.gpuBufferSync();
        },
        async read() {
          return await Promise.all(outputs.map((array) => array.ref.data())) as Float32Array[];
        },
        dispose() {
          free();
          for (const array of inputs) array.dispose();
          run.dispose();
        },
      };
    },
    async settle() {
      await fence.ref.add(1).data(); // its queue is in order: what comes back was computed last
    },
    close: () => fence.dispose(),
  };
}

function program(work: Work): Program {
  if (work.kind === "matmul") {
    const { layout } = work;
    return (a, b) => [
      np.matmul(layout[0] === "T" ? a.transpose() : a, layout[1] === "T" ? b.transpose() : b),
    ];
  }
  if (work.kind === "block") return block(work.shape);
  if (work.kind === "softmax") {
    return (x, dy) => {
      const [y, pull] = jax.vjp((x: jax.Array) => jax.nn.softmax(x, -1), [x]);
      const [dx] = pull(dy) as jax.Array[];
      return [y, dx];
    };
  }
  return (x, weight, dy) => {
    const norm = (x: jax.Array, weight: jax.Array) => rmsNorm(x, weight, 1e-6);
    const [y, pull] = jax.vjp(norm, [x, weight]);
    const [dx, dweight] = pull(dy) as jax.Array[];
    return [y, dx, dweight];
  };
}

function rmsNorm(x: jax.Array, weight: jax.Array, eps: number): jax.Array {
  const squares = np.mean(np.square(x.ref), -1, { keepdims: true });
  return x.mul(np.reciprocal(np.sqrt(squares.add(eps)))).mul(weight);
}

function block({ samples, length, width, heads, causal }: BlockShape): Program {
  const size = width / heads;
  const split = (t: jax.Array) => t.reshape([samples, length, heads, size]);
  const linear = (x: jax.Array, weight: jax.Array) => np.matmul(x, weight.transpose());
  const loss = (
    ...[x, norm1, query, key, value, project, norm2, up, down, weights]: jax.Array[]
  ): jax.Array => {
    const first = rmsNorm(x.ref, norm1, BLOCK_EPS);
    const q = split(linear(first.ref, query));
    const k = split(linear(first.ref, key));
    const v = split(linear(first, value));
    const mixed = jax.nn.dotProductAttention(q, k, v, { isCausal: causal });
    const h = x.add(linear(mixed.reshape([samples * length, width]), project));
    const inner = jax.nn.gelu(linear(rmsNorm(h.ref, norm2, BLOCK_EPS), up), { approximate: true });
    const y = h.add(linear(inner, down));
    return np.sum(y.mul(weights));
  };
  const argnums = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const gradients = jax.valueAndGrad(loss, { argnums });
  return (...inputs) => {
    const [value, grads] = gradients(...inputs);
    return [value, ...grads as jax.Array[]];
  };
}
