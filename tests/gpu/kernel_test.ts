import assert from "node:assert/strict";
import { foldGrid, Kernel, MAX_GROUPS } from "../../lib/gpu/kernel.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { counting, line, pointwiseCode, runLine, withDevice } from "./kernels.ts";

Deno.test(
  "Kernel names the buffer or param that is missing, and those it takes",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const x = counting(gpu, 4);
    const y = Tensor.empty(gpu, [4]);
    const params = { n: 4, a: 1, b: 0 };
    assert.deepEqual(line.bindings, ["x", "y", "params"]);
    assert.throws(() => line.run(gpu, { buffers: { x: x.buffer }, params, grid: [1] }), {
      name: "TypeError",
      message: 'Cannot run kernel "line": no buffer for "y" (it binds x, y, params)',
    });
    const buffers = { x: x.buffer, y: y.buffer };
    assert.throws(() => line.run(gpu, { buffers, params: { n: 4, b: 0 }, grid: [1] }), {
      name: "TypeError",
      message: 'Cannot run kernel "line": no param "a" (it takes n, a, b)',
    });
  },
);

Deno.test("Kernel refuses knobs that the WGSL does not declare", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => new Kernel("line", { main: pointwiseCode("x[i]"), knobs: ["BLOK"] }), {
    name: "TypeError",
    message: 'Cannot load kernel "line": kernels/line.wgsl declares no knob BLOK',
  });
  const knobs = { WIDTH: 4 } as Record<string, number>;
  assert.throws(() => line.prepare(gpu, knobs), {
    name: "TypeError",
    message: 'Cannot run kernel "line": no knob "WIDTH" (it has BLOCK, ADDED, scalar)',
  });
});

Deno.test("Kernel refuses launches that WebGPU would drop", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = counting(gpu, 128);
  const y = Tensor.empty(gpu, [128]);
  const params = { n: 4, a: 1, b: 0 };
  const run = (launch: Partial<Parameters<typeof line.run>[1]>) =>
    line.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params, grid: [1], ...launch });
  assert.throws(() => run({ grid: [1, 70000] }), {
    name: "RangeError",
    message: 'internal: kernel "line" is launched on (1, 70000) workgroups, an axis holds 65535',
  });
  assert.throws(() => run({ grid: [NaN] }), { name: "RangeError" });
  assert.throws(() => run({ buffers: { x: x.buffer, y: x.buffer } }), {
    message: 'internal: kernel "line" writes "y" into the buffer it reads as "x"',
  });
  const range = (offset: number, sizeBytes: number) => ({ buffer: x.buffer, offset, sizeBytes });
  assert.throws(() => run({ buffers: { x: range(64, 64), y: y.buffer } }), {
    message: 'internal: kernel "line" binds "x" from byte 64, no multiple of 256',
  });
  const large = gpu.maxBindingBytes + 4;
  assert.throws(() => run({ buffers: { x: range(0, large), y: y.buffer } }), {
    message: `internal: kernel "line" binds ${large} bytes as "x", the adapter allows ` +
      `${gpu.maxBindingBytes}: split the launch`,
  });
  for (
    const [bad, what] of [[{ n: -1 }, "u32"], [{ n: 0.5 }, "u32"], [{ n: 2 ** 32 }, "u32"], [{
      b: 2 ** 31,
    }, "i32"]] as const
  ) {
    assert.throws(() => run({ params: { ...params, ...bad } }), {
      name: "RangeError",
      message: new RegExp(`^internal: kernel "line" takes a ${what} "[nb]", not `),
    });
  }
  run({}); // and goes on after all of them
  assert.deepEqual([...(await y.floats()).subarray(0, 4)], [0, 1, 2, 3]);
});

Deno.test("Kernel refuses more buffers than the adapter binds", GPU_TEST, async () => {
  const gpu = await testGpu();
  const most = gpu.device.limits.maxStorageBuffersPerShaderStage;
  const bindings = Array.from(
    { length: most + 1 },
    (_, i) => `@group(0) @binding(${i}) var<storage, read_write> y${i}: array<f32>;`,
  );
  const code = [...bindings, "@compute @workgroup_size(1)", "fn main() { y0[0] = 1.0; }"];
  assert.throws(() => new Kernel("wide", { main: code.join("\n") }).prepare(gpu), {
    message: `internal: kernel "wide" binds ${most + 1} buffers, the adapter allows ${most}`,
  });
});

Deno.test("a WGSL error is thrown with file, line and column", async () => {
  await withDevice(async (gpu) => {
    const broken = new Kernel("broken", { main: pointwiseCode("nothing") });
    broken.prepare(gpu);
    await assert.rejects(() => gpu.settle(), (error) => {
      assert.match((error as Error).message, /^kernels\/broken\.wgsl:12:30: .*nothing[^\n]*$/);
      return true;
    });
  });
});

Deno.test("a WGSL error in a part is counted from the part's first line", async () => {
  await withDevice(async (gpu) => {
    const parts = [
      "fn f(v: f32) -> f32 { return v; }\n",
      "fn g(v: f32) -> f32 {\n  return h(v);\n}",
    ];
    const broken = new Kernel("outer", { main: pointwiseCode("g(f(x[i]))"), parts });
    const x = counting(gpu, 4);
    const y = Tensor.empty(gpu, [4]);
    const buffers = { x: x.buffer, y: y.buffer };
    broken.run(gpu, { buffers, params: { n: 4, a: 1, b: 0 }, grid: [1] });
    await assert.rejects(() => y.read(), /^Error: kernels\/outer\.wgsl, part 2:2:10: .*h/);
  });
});

Deno.test("what compiles but makes no pipeline is thrown with the kernel's name", async () => {
  await withDevice(async (gpu) => {
    const main = pointwiseCode("x[i]").replace("fn main", "fn other");
    new Kernel("headless", { main }).prepare(gpu);
    await assert.rejects(
      () => gpu.settle(),
      /^Error: internal: kernel "headless" does not build: /,
    );
  });
});

Deno.test(
  "knobs of all three kinds, parts and names choose their own pipelines",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const x = counting(gpu, 200);
    const launch = (kernel: typeof line, more: object) => {
      const y = Tensor.empty(gpu, [200]);
      const buffers = { x: x.buffer, y: y.buffer };
      kernel.run(gpu, { buffers, params: { n: 200, a: 2, b: -3 }, grid: [4], ...more });
      return y;
    };
    const open = new Kernel("open", {
      main: pointwiseCode("f(x[i])"),
      parts: ["fn f(v: f32) -> f32 { return v + 1.0; }"],
      knobs: ["BLOCK", "ADDED", "scalar"],
    });
    // the same name for other code: each keeps its own pipeline and params
    const namesake = new Kernel("open", {
      main: pointwiseCode("-x[i]"),
      knobs: ["BLOCK", "ADDED", "scalar"],
    });
    const results = await readAll([
      launch(line, {}),
      launch(line, { knobs: { ADDED: "10.0" } }),
      launch(line, { knobs: { BLOCK: 100 }, grid: [2] }),
      launch(open, {}),
      launch(open, { parts: ["fn f(v: f32) -> f32 { return 7.0 * v; }"] }),
      launch(namesake, {}),
      launch(line, {}),
    ]);
    assert.deepEqual(results.map((y) => y[5]), [7, 17, 7, 6, 35, -5, 7]);
    assert.deepEqual(results.map((y) => y[199]), [395, 405, 395, 200, 1393, -199, 395]);
  },
);

const halves = (await testGpu()).device.features.has("shader-f16");

Deno.test({
  name: 'knob "f16" turns the extension on' +
    (halves ? "" : " (skipped: this adapter has no shader-f16)"),
  ignore: !halves,
  ...GPU_TEST,
  fn: async () => {
    const gpu = await testGpu();
    const bits = Uint16Array.of(0x3c00, 0x4000, 0xc200, 0); // 1, 2, -3, 0
    const x = Tensor.fromHalves(gpu, bits, [4], "f16");
    const y = Tensor.empty(gpu, [4], "f16");
    const buffers = { x: x.buffer, y: y.buffer };
    const params = { n: 4, a: 2, b: 1 };
    line.run(gpu, { buffers, params, knobs: { scalar: "f16" }, grid: [1] });
    assert.deepEqual([...await y.floats()], [3, 5, -5, 1]);
  },
});

Deno.test("more sets of params than are kept give right results", async () => {
  await withDevice(async (gpu) => {
    const x = Tensor.from(gpu, [1], [1]);
    const total = 4096 + 300;
    const y = Tensor.empty(gpu, [64 * total]); // one aligned slot for each
    for (let i = 0; i < total; i++) {
      const slot = { buffer: y.buffer, offset: 256 * i, sizeBytes: 4 };
      line.run(gpu, { buffers: { x: x.buffer, y: slot }, params: { n: 1, a: i, b: 0 }, grid: [1] });
    }
    const [first, again] = [Tensor.empty(gpu, [1]), Tensor.empty(gpu, [1])];
    runLine(x, first, 0); // forgotten by now
    runLine(x, again, total - 1);
    const [values, a, b] = await readAll([y, first, again]);
    for (let i = 0; i < total; i++) assert.equal(values[64 * i], i);
    assert.deepEqual([a[0], b[0]], [0, total - 1]);
  });
});

Deno.test("foldGrid() covers every count on two axes the adapter allows", () => {
  for (const n of [0, 1, 65535, 65536, 65537, 131070, 131071, 10 ** 7, MAX_GROUPS * MAX_GROUPS]) {
    const [x, y] = foldGrid(n);
    assert.ok(x >= 1 && y >= 1 && x <= MAX_GROUPS && y <= MAX_GROUPS, `${n}: ${x}, ${y}`);
    assert.ok(x * y >= n && x * y < n + y + 1, `${n}: ${x} · ${y}`);
  }
});

Deno.test("a grid of more than 65535 workgroups reaches the last value", GPU_TEST, async () => {
  const gpu = await testGpu();
  const n = 65535 * 4 + 4099;
  const [x, y] = [counting(gpu, n), Tensor.zeros(gpu, [n])];
  line.run(gpu, {
    buffers: { x: x.buffer, y: y.buffer },
    params: { n, a: 1, b: 1 },
    knobs: { BLOCK: 4 },
    grid: foldGrid(Math.ceil(n / 4)),
  });
  const values = await y.floats();
  assert.equal(values.findIndex((v, i) => v !== i + 1), -1);
  for (const t of [x, y]) t.dispose();
});
