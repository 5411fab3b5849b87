// What an adapter can do at most, by kernels that do nothing else: a copy, loads, stores. (Arithmetic: measure.ts.)

import type { Gpu } from "../../lib/gpu/device.ts";
import { foldGrid, Kernel } from "../../lib/gpu/kernel.ts";
import { Tensor } from "../../lib/tensor.ts";
import { elapsed, fixedWait, median, repeatsFor, takeTurns } from "./measure.ts";

const head = (read: boolean) =>
  `struct Params { n: u32 }
${read ? "@group(0) @binding(0) var<storage, read> x: array<vec4f>;" : ""}
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> params: Params;
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i * 4u >= params.n) { return; }
`;
const LOADS = 16; // per store
const SAMPLE_MS = 60;
const MOST_REPEATS = 500;
const copyKernel = new Kernel("copy_values", { main: `${head(true)}  y[i] = x[i];\n}` });
const storeKernel = new Kernel("store_values", {
  main: `${head(false)}  y[i] = vec4f(f32(i));\n}`,
});
const loadKernel = new Kernel("load_values", {
  main: `${head(true)}  var s = vec4f();
  let threads = params.n / 4u;
  for (var j = 0u; j < ${LOADS}u; j++) { s += x[i + j * threads]; }
  y[i] = s;
}`,
});

/** Copies `x` to `y` by a kernel: what streaming kernels are measured against. */
export function copyValues(x: Tensor, y: Tensor): void {
  copyKernel.run(x.gpu, {
    buffers: { x: x.buffer, y: y.buffer },
    params: { n: x.size },
    grid: foldGrid(Math.ceil(x.size / 256)),
  });
}

/** GB/s of streams over memory: bytes loaded, stored, or both. */
export interface Streams {
  load: number;
  store: number;
  copy: number;
}

/**
 * Measures the streams over `values` f32 values, in turns, medians of `rounds`. Where kernels read copies of their
 * inputs (see lib/gpu/texel_copies.ts), `fresh` makes these copies part of the time, as it is for values that are
 * read once.
 *
 * @throws {Error} If a stream moved something else
 */
export async function streams(gpu: Gpu, values: number, rounds: number): Promise<Streams> {
  const settle = () => gpu.settle();
  const waitMs = await fixedWait(settle);
  const x = Tensor.from(gpu, Float32Array.from({ length: values }, (_, i) => i % 251), [values]);
  const y = Tensor.empty(gpu, [values]);
  const few = Tensor.empty(gpu, [values / LOADS]);
  const launches = {
    copy: () => copyValues(x, y),
    store: () => {
      const grid = foldGrid(Math.ceil(values / 256));
      storeKernel.run(gpu, { buffers: { y: y.buffer }, params: { n: values }, grid });
    },
    load: () => {
      const grid = foldGrid(Math.ceil(few.size / 256));
      const buffers = { x: x.buffer, y: few.buffer };
      loadKernel.run(gpu, { buffers, params: { n: few.size }, grid });
    },
  };
  const names = ["copy", "store", "load"] as const;
  const timed = names.map((name) => {
    const launch = () => {
      refresh(x);
      launches[name]();
    };
    launch(); // compiles
    return { launch, settle };
  });
  const repeats: number[] = [];
  for (const each of timed) repeats.push(await repeatsFor(each, waitMs, SAMPLE_MS, MOST_REPEATS));
  const samples = await takeTurns([...names.keys()], rounds, async (i) => {
    return await elapsed(timed[i], repeats[i], waitMs) / repeats[i];
  });
  launches.copy();
  const got = await y.floats();
  const wrong = got.findIndex((v, i) => v !== i % 251);
  if (wrong >= 0) throw new Error(`Cannot use the copy ceiling: value ${wrong} is ${got[wrong]}`);
  for (const t of [x, y, few]) t.dispose();
  const gbps = (bytes: number, i: number) => bytes / median(samples[i]) / 1e6;
  return {
    copy: gbps(8 * values, 0),
    store: gbps(4 * values, 1),
    load: gbps(4 * values * (1 + 1 / LOADS), 2),
  };
}

/** Has the next kernel that reads a tensor see it as newly written. */
export function refresh(x: Tensor): void {
  const { buffer } = x;
  (buffer.root ?? buffer).version++;
}
