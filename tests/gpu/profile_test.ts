// What a profile says of work on a device: labels, order, arithmetic, bytes. Times themselves are not judged.

import assert from "node:assert/strict";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import type { KernelTime } from "../../lib/gpu/timings.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask } from "../../lib/ops/attention_mask.ts";
import { conv2d, padAll } from "../../lib/ops/conv2d.ts";
import { gatherRows } from "../../lib/ops/gather_rows.ts";
import { matmul } from "../../lib/ops/matmul.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { backward, parameter } from "../../lib/autograd.ts";
import { sum } from "../../lib/ops/sum.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";
import { counting, runLine, withDevice } from "./kernels.ts";

const timed = (await testGpu()).device.features.has("timestamp-query");

/** A test on a device that profiles. */
function test(name: string, work: (gpu: Gpu) => Promise<void>): void {
  Deno.test({
    name: name + (timed ? "" : " (skipped: this adapter has no timestamps)"),
    ignore: !timed,
    ...GPU_TEST,
    fn: () => withDevice(work, { budgetBytes: 2 ** 26, profile: true }),
  });
}

/** Rows of what runs from now on until `work` is done. */
async function rowsDuring(gpu: Gpu, work: () => void): Promise<KernelTime[]> {
  const mark = gpu.profile!.mark();
  work();
  gpu.flush();
  return await gpu.profile!.table(mark);
}

const flopOf = (rows: KernelTime[]) => rows.reduce((n, row) => n + row.flop, 0);
const random = (gpu: Gpu, ...shape: number[]) =>
  Tensor.from(gpu, normals(shape.reduce((n, d) => n * d), 1), shape);

test("Profile lists dispatches, copies, clears and reads in order, with their bytes", async (gpu) => {
  Tensor.empty(gpu, [1020]).dispose(); // reused: what was asked for last counts
  const [x, y] = [counting(gpu, 1000), Tensor.empty(gpu, [1000])]; // of 4,096 bytes each
  const mark = gpu.profile!.mark();
  runLine(x, y, 2);
  gpu.copy(x.buffer, 0, y.buffer, 0, 400);
  gpu.clear(x.buffer);
  runLine(x, y, 3);
  assert.deepEqual(await x.floats(), new Float32Array(1000));
  const all = await gpu.profile!.sequence(mark);
  const calls = all.filter(({ label }) => label !== "texel copy");
  assert.deepEqual(calls.map(({ label, bytes, first }) => [label, bytes, first]), [
    ["line", 8000, true],
    ["copy", 800, false],
    ["clear", 4096, false],
    ["line", 8000, false],
    ["read", 8000, false],
  ]);
  for (const [i, { startNs, milliseconds }] of all.entries()) {
    assert.ok(milliseconds >= 0, `${milliseconds} ms`);
    assert.ok(i === 0 || startNs >= all[i - 1].startNs, "in order");
  }
  assert.equal(gpu.profile!.untimed, 0);
});

test("Profile times more commands without a dispatch than its queries hold", async (gpu) => {
  const [x, y] = [counting(gpu, 64), Tensor.empty(gpu, [64])];
  for (let i = 0; i < 2500; i++) gpu.copy(x.buffer, 0, y.buffer, 0, 4);
  gpu.copy(x.buffer, 0, y.buffer, 0, 256);
  assert.deepEqual(await y.floats(), await x.floats());
  const { calls, bytes } = (await gpu.profile!.table()).find(({ label }) => label === "copy")!;
  assert.deepEqual([calls, bytes], [2501, 2500 * 8 + 512]);
});

test("products count 2·m·n·k operations, whichever kernel runs them", async (gpu) => {
  for (const [m, n, k] of [[64, 48, 32], [1, 64, 32], [33, 7, 130]]) {
    const rows = await rowsDuring(gpu, () => matmul(random(gpu, m, k), random(gpu, k, n)));
    assert.equal(flopOf(rows), 2 * m * n * k, `${m}, ${n}, ${k}`);
  }
});

test("attention counts its products over the pairs in the mask's ranges", async (gpu) => {
  const sample = Int32Array.from({ length: 40 }, (_, i) => i < 15 ? 0 : 1);
  const mask = attentionMask(gpu, { sample, split: sample, mode: new Int32Array(40) });
  const pairs = 15 * 16 / 2 + 25 * 26 / 2;
  assert.equal(mask.pairs, pairs);
  const [q, k, v] = [4, 2, 2].map((heads) => parameter(random(gpu, 40, heads, 8)));
  const product = 2 * pairs * 8 * 4;
  const forward = await rowsDuring(gpu, () => attention(q, k, v, mask));
  assert.equal(flopOf(forward), 2 * product, "q·k, p·v");
  const both = await rowsDuring(gpu, () => backward(sum(attention(q, k, v, mask))));
  // Backward there are q·k and dy·v, for queries and for keys or once for both, and three products of their own.
  const products = (flopOf(both) - flopOf(forward)) / product;
  assert.ok(products === 5 || products === 7, `${products} products backward`);
});

test("conv2d counts 2·k² operations per output and pair of channels, each way", async (gpu) => {
  const x = parameter(random(gpu, 2, 8, 8, 4));
  const weight = parameter(random(gpu, 8, 4, 3, 3));
  const bias = parameter(random(gpu, 8));
  const rows = await rowsDuring(
    gpu,
    () => backward(sum(conv2d(x, weight, bias, { padding: padAll(1) }))),
  );
  const once = 2 * 9 * (2 * 8 * 8) * 4 * 8;
  assert.equal(flopOf(rows), 3 * once);
});

test("gathered rows count, not the table they are taken from", async (gpu) => {
  const table = random(gpu, 500, 16);
  const index = rowIndex(gpu, Int32Array.of(3, 400, 7), 500);
  const rows = await rowsDuring(gpu, () => gatherRows(table, index));
  const { bytes } = rows.find(({ label }) => label === "gather_rows")!;
  assert.equal(bytes, 3 * (2 * 16 * 4 + 4));
});

test("Profile.trace() tells host and device on one clock", async (gpu) => {
  const begun = performance.now();
  const [x, y] = [counting(gpu, 2 ** 16), Tensor.empty(gpu, [2 ** 16])];
  for (let i = 0; i < 300; i++) runLine(x, y, i);
  await gpu.settle();
  await new Promise((resolve) => setTimeout(resolve, 100)); // a gap both clocks see
  runLine(x, y, 1);
  await gpu.settle();
  const trace = await gpu.profile!.trace();
  const ended = performance.now();
  const spans = (tid: number) => trace.traceEvents.filter((e) => e.ph === "X" && e.tid === tid);
  const names = (tid: number) => [...new Set(spans(tid).map(({ name }) => name))].sort();
  assert.deepEqual(names(2), ["record", "submit", "upload"]);
  assert.deepEqual(names(3), ["wait"]);
  assert.equal(spans(1).filter(({ name }) => name === "line").length, 301);
  const firstSubmit = spans(2).find(({ name }) => name === "submit")!.ts!;
  for (const { ts, dur } of spans(1)) {
    assert.ok(ts! >= firstSubmit - 0.001 && ts! >= 1000 * begun, "not before it was submitted");
    assert.ok(ts! + dur! <= 1000 * ended, "not after it was waited for");
  }
  assert.equal(JSON.parse(JSON.stringify(trace)).otherData.commands_left_out, 0);
});

Deno.test(
  "openDevice() refuses to profile on an adapter without timestamps",
  GPU_TEST,
  async () => {
    const ask = navigator.gpu.requestAdapter.bind(navigator.gpu);
    const adapter = (await ask())!;
    const blind = new Proxy(adapter, {
      get: (target, name) => {
        if (name === "features") return new Set();
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const replaced = { value: () => Promise.resolve(blind), configurable: true };
    Object.defineProperty(navigator.gpu, "requestAdapter", replaced);
    try {
      await assert.rejects(
        () => openDevice({ profile: true }),
        (error: Error & { help: string }) => {
          assert.match(error.message, /^Cannot profile on .*: it has no timestamps$/);
          assert.match(error.help, /^leave --profile out, or use another adapter/);
          return error.name === "ResourceError";
        },
      );
    } finally {
      Reflect.deleteProperty(navigator.gpu, "requestAdapter");
    }
  },
);
