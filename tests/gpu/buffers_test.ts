import assert from "node:assert/strict";
import { ResourceError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/gpu/buffers.ts";
import { sizeClass } from "../../lib/gpu/size_class.ts";
import { Tensor } from "../../lib/tensor.ts";
import { counting, runLine, withDevice } from "./kernels.ts";

Deno.test("sizeClass() holds what is asked and wastes at most a fifth", () => {
  assert.equal(sizeClass(1), 256);
  for (let bytes = 257; bytes < 2 ** 31; bytes = Math.ceil(bytes * 1.13)) {
    const size = sizeClass(bytes);
    assert.ok(size >= bytes && size % 64 === 0, `${bytes}: ${size}`);
    assert.ok(size - bytes <= size / 5, `${bytes}: ${size}`);
    assert.equal(sizeClass(size), size);
  }
});

Deno.test("formatBytes() picks the unit", () => {
  assert.deepEqual([900, 3 * 2 ** 19, 5 * 2 ** 29].map(formatBytes), [
    "900 B",
    "1.5 MiB",
    "2.50 GiB",
  ]);
});

Deno.test("BufferPool counts live, idle and peak bytes, and reuses what came back", async () => {
  await withDevice((gpu) => {
    const pool = gpu.buffers;
    const counts = () => [pool.liveCount, pool.liveBytes, pool.idleBytes, pool.peakBytes];
    const a = pool.take(1000, "a");
    const b = pool.take(3000, "b");
    assert.deepEqual([a.sizeBytes, b.sizeBytes], [1024, 3072]);
    assert.deepEqual(counts(), [2, 4096, 0, 4096]);
    pool.give(a);
    assert.deepEqual(counts(), [1, 3072, 1024, 4096]);
    const c = pool.take(1024, "c");
    assert.equal(c, a);
    assert.deepEqual(counts(), [2, 4096, 0, 4096]);
    assert.notEqual(pool.take(1024, "d").id, a.id);
    assert.equal(pool.peakBytes, 5120);
    pool.give(b);
    pool.trim();
    assert.deepEqual(counts(), [2, 2048, 0, 5120]);
  });
});

Deno.test("a buffer is reused for half its size: counted and bound as what was asked for", async () => {
  await withDevice((gpu) => {
    const pool = gpu.buffers;
    const a = pool.take(4096, "a");
    pool.give(a);
    const b = pool.take(2100, "b");
    assert.deepEqual([b, b.sizeBytes, b.heldBytes, b.usedBytes], [a, 4096, 2560, 2100]);
    assert.deepEqual([pool.liveBytes, pool.idleBytes], [2560, 1536]);
    pool.give(b);
    assert.notEqual(pool.take(1700, "less than half"), a);
    assert.notEqual(pool.take(3000, "weights", true), a);
    assert.equal(pool.take(4096, "c"), a);
    assert.equal(a.heldBytes, 4096);
  });
});

Deno.test("where memory is short a buffer is not reused for less than its size", async () => {
  await withDevice((gpu) => {
    const pool = gpu.buffers;
    const a = pool.take(2 ** 19 + 2 ** 18, "a");
    pool.give(a);
    assert.notEqual(pool.take(2 ** 19, "b"), a);
    assert.equal(pool.idleBytes, 0, "it was freed to make room");
  }, { budgetBytes: 2 ** 20 });
});

Deno.test("the budget is refused before anything is allocated, naming tensor and repair", async () => {
  await withDevice((gpu) => {
    let created = 0;
    const create = gpu.device.createBuffer.bind(gpu.device);
    gpu.device.createBuffer = (descriptor) => {
      created++;
      return create(descriptor);
    };
    const held = Tensor.empty(gpu, [2 ** 17]);
    assert.throws(() => Tensor.empty(gpu, [64, 3000]), (error) => {
      assert.ok(error instanceof ResourceError);
      assert.equal(
        error.message,
        "Cannot allocate 786432 B for a (64, 3000) f32 tensor: 524288 B of the budget of " +
          "1.0 MiB is in use",
      );
      assert.match(error.help!, /--budget/);
      return error.exitCode === 4;
    });
    assert.equal(created, 1);
    assert.equal(gpu.buffers.liveBytes, 2 ** 19);
    held.dispose();
  }, { budgetBytes: 2 ** 20 });
});

Deno.test("idle buffers are freed rather than the budget exceeded", async () => {
  await withDevice((gpu) => {
    for (const n of [2 ** 16, 2 ** 17]) Tensor.empty(gpu, [n]).dispose();
    assert.equal(gpu.buffers.idleBytes, 2 ** 18 + 2 ** 19);
    Tensor.empty(gpu, [2 ** 17 + 2 ** 15]); // fits only without the idle ones
    assert.equal(gpu.buffers.idleBytes, 0);
  }, { budgetBytes: 2 ** 20 });
});

Deno.test("a buffer larger than the adapter makes is refused whatever the budget", async () => {
  await withDevice((gpu) => {
    const most = gpu.device.limits.maxBufferSize;
    assert.throws(() => gpu.buffers.take(most + 1, "the embeddings"), {
      name: "ResourceError",
      message: /^Cannot allocate .* for the embeddings: this adapter's buffers end at /,
    });
  }, { budgetBytes: 2 ** 60 });
});

Deno.test("a buffer may be reused while work that reads it is still recorded", async () => {
  await withDevice(async (gpu) => {
    const results = Array.from({ length: 5 }, (_, i) => {
      const x = Tensor.from(gpu, Float32Array.of(i), [1]);
      const y = Tensor.empty(gpu, [1]);
      runLine(x, y, 10);
      x.dispose();
      return y;
    });
    const values = await Promise.all(results.map((y) => y.floats()));
    assert.deepEqual(values.map(([v]) => v), [0, 10, 20, 30, 40]);
    const first = counting(gpu, 8);
    const y = Tensor.empty(gpu, [8]);
    runLine(first, y, 2);
    first.dispose();
    gpu.buffers.trim(); // destroys what the recorded work reads, after submitting it
    assert.deepEqual([...await y.floats()], [0, 2, 4, 6, 8, 10, 12, 14]);
  });
});
