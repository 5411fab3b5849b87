import assert from "node:assert/strict";
import { ResourceError } from "../../lib/errors.ts";
import { adapterFacts } from "../../lib/gpu/adapter.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { deviceReport } from "../../lib/gpu/report.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { counting, runLine, withDevice } from "./kernels.ts";

const { software } = (await testGpu()).adapter;

Deno.test({
  name: "openDevice() refuses a software adapter where a GPU is asked for" +
    (software ? "" : " (skipped: this machine has a GPU)"),
  ignore: !software,
  ...GPU_TEST,
  fn: async () => {
    await assert.rejects(() => openDevice({ adapter: "gpu" }), (error) => {
      assert.ok(error instanceof ResourceError);
      assert.match(error.message, /^Cannot open a GPU: the only adapter is software \(.+\)$/);
      assert.equal(error.help, "install the graphics driver, or use --adapter any");
      return error.exitCode === 4;
    });
    const gpu = await openDevice({ adapter: "software" });
    assert.equal(gpu.adapter.software, true);
    gpu.close();
  },
});

Deno.test("adapterFacts() takes the names of software rasterizers for software", () => {
  const facts = (description: string, isFallbackAdapter = false) =>
    adapterFacts(
      { info: { description, vendor: "v", device: "", isFallbackAdapter } } as GPUAdapter,
    );
  assert.equal(facts("llvmpipe (LLVM 15.0.6, 256 bits)").software, true);
  assert.equal(facts("SwiftShader Device (Subzero)").software, true);
  assert.equal(facts("Some card", true).software, true);
  assert.deepEqual(facts("Some card"), { name: "Some card", vendor: "v", software: false });
  assert.equal(facts("").name, "v");
});

Deno.test("deviceReport() gives limits that the device has, none below WebGPU's default", async () => {
  await withDevice((gpu) => {
    const report = deviceReport(gpu);
    assert.equal(report.budgetBytes, 2 ** 24);
    assert.ok(report.limits.length >= 10);
    for (const { name, granted, standard } of report.limits) {
      assert.ok(granted >= standard, `${name}: ${granted} below ${standard}`);
      assert.equal(granted, gpu.device.limits[name], name);
    }
    assert.equal(report.timestamps, report.features.includes("timestamp-query"));
  });
});

Deno.test("Gpu.write() comes after the work recorded before it", async () => {
  await withDevice(async (gpu) => {
    const x = counting(gpu, 4);
    const [before, after] = [Tensor.empty(gpu, [4]), Tensor.empty(gpu, [4])];
    runLine(x, before, 1);
    x.write(Float32Array.of(9, 9, 9, 9));
    runLine(x, after, 1);
    assert.deepEqual(await readAll([before, after]), [
      Float32Array.of(0, 1, 2, 3),
      Float32Array.of(9, 9, 9, 9),
    ]);
  });
});

Deno.test("Gpu.write() takes bytes of any number, from the middle of an array", async () => {
  await withDevice(async (gpu) => {
    const buffer = gpu.buffers.take(256, "test");
    gpu.clear(buffer);
    gpu.write(buffer, Uint8Array.of(9, 1, 2, 3, 4, 5, 6, 9).subarray(1, 7), 4);
    const [bytes] = await gpu.read([{ buffer, sizeBytes: 13 }]);
    assert.deepEqual([...new Uint8Array(bytes)], [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0]);
  });
});

Deno.test("Gpu.copy() and clear() keep their place among dispatches", async () => {
  await withDevice(async (gpu) => {
    const [x, y, z] = [counting(gpu, 64), Tensor.empty(gpu, [64]), Tensor.zeros(gpu, [128])];
    runLine(x, y, 2);
    gpu.copy(y.buffer, 0, z.buffer, 256, 256);
    gpu.clear(y.buffer);
    const [cleared, copied] = await readAll([y, z]);
    assert.ok(cleared.every((v) => v === 0));
    assert.ok(copied.every((v, i) => v === (i < 64 ? 0 : 2 * (i - 64))));
  });
});

Deno.test("an invalid command makes every later call throw, naming the kernels around it", async () => {
  await withDevice(async (gpu) => {
    const [x, y] = [counting(gpu, 4), Tensor.empty(gpu, [4])];
    runLine(x, y, 2);
    gpu.copy(x.buffer, 0, y.buffer, 256, 4); // past the end
    const wrong = /^Error: internal: invalid GPU command \(in a batch of line, copy, read\): .*256/;
    await assert.rejects(() => y.read(), wrong);
    await assert.rejects(() => x.read(), wrong);
    assert.throws(() => runLine(x, y, 2), wrong);
    assert.throws(() => Tensor.zeros(gpu, [1]), wrong);
    await assert.rejects(() => gpu.settle(), wrong);
  });
});

Deno.test("an invalid command outside a batch throws as well", async () => {
  await withDevice(async (gpu) => {
    gpu.device.createBuffer({ size: 4, usage: 0x8000 });
    await assert.rejects(() => counting(gpu, 4).read(), /internal: invalid GPU command: /);
  });
});

Deno.test("settle() throws what went wrong", async () => {
  await withDevice(async (gpu) => {
    const x = counting(gpu, 4);
    gpu.copy(x.buffer, 1, x.buffer, 128, 4);
    await assert.rejects(() => gpu.settle(), /invalid GPU command \(in a batch of copy\)/);
  });
});

Deno.test("a lost device throws and never gives zeros", async () => {
  const gone = (error: unknown) => {
    assert.ok(error instanceof ResourceError, String(error));
    assert.match(error.message, /^Cannot go on: the GPU was lost \(.+\)$/);
    assert.match(error.help!, /--resume/);
    return true;
  };
  const work: ((x: Tensor, y: Tensor) => Promise<unknown>)[] = [
    (x) => x.read(),
    (x, y) => (runLine(x, y, 3), y.read()),
    (x, y) => (runLine(x, y, 3), x.gpu.settle()),
    (x) => readAll([Tensor.zeros(x.gpu, [7]), x]),
  ];
  for (const attempt of work) {
    await withDevice(async (gpu) => {
      const [x, y] = [counting(gpu, 4), Tensor.empty(gpu, [4])];
      runLine(x, y, 2);
      gpu.device.destroy();
      await assert.rejects(async () => await attempt(x, y), gone);
      assert.throws(() => runLine(x, y, 2), gone);
    });
  }
});

Deno.test("a closed device says so", async () => {
  const gpu = await openDevice({ budgetBytes: 2 ** 20 });
  const x = counting(gpu, 4);
  gpu.close();
  gpu.close();
  await assert.rejects(() => x.read(), /^Error: Cannot use a closed device$/);
});

Deno.test("the first failure stands, in the order watched", async () => {
  await withDevice(async (gpu) => {
    gpu.watch(new Promise((resolve) => setTimeout(() => resolve(new Error("cause")), 5)));
    gpu.watch(Promise.resolve(new Error("consequence")));
    await assert.rejects(() => gpu.settle(), /^Error: cause$/);
  });
});

const timed = (await testGpu()).device.features.has("timestamp-query");

Deno.test({
  name: "Profile.table() counts calls and time by kernel" +
    (timed ? "" : " (skipped: this adapter has no timestamps)"),
  ignore: !timed,
  ...GPU_TEST,
  fn: async () => {
    await withDevice(async (gpu) => {
      const [x, y] = [counting(gpu, 2 ** 16), Tensor.empty(gpu, [2 ** 16])];
      for (let i = 0; i < 300; i++) runLine(x, y, i); // more than one batch
      await gpu.settle();
      const rows = await gpu.profile!.table();
      const [entry, ...others] = rows.filter(({ label }) => label !== "texel copy");
      assert.deepEqual([entry.label, entry.calls, others], ["line", 300, []]);
      assert.ok(entry.milliseconds > 0 && entry.milliseconds < 10_000, `${entry.milliseconds} ms`);
      runLine(x, y, 1);
      await gpu.settle();
      assert.equal((await gpu.profile!.table())[0].calls, 301);
    }, { budgetBytes: 2 ** 24, profile: true });
  },
});
