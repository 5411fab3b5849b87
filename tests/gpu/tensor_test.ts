import assert from "node:assert/strict";
import { bytesOf, readAll, Scope, Tensor, tidy } from "../../lib/tensor.ts";
import { counting, runLine, withDevice } from "./kernels.ts";

Deno.test("Tensor.from() follows the array's kind and gives back its values", async () => {
  await withDevice(async (gpu) => {
    const f = Tensor.from(gpu, Float32Array.of(1.5, -2), [2]);
    const i = Tensor.from(gpu, Int32Array.of(-7, 2 ** 31 - 1), [1, 2]);
    const u = Tensor.from(gpu, Uint32Array.of(2 ** 32 - 1), []);
    const plain = Tensor.from(gpu, [0.5, 3], [2, 1]);
    assert.deepEqual([f, i, u, plain].map((t) => t.dtype), ["f32", "i32", "u32", "f32"]);
    assert.deepEqual(await readAll([f, i, u, plain]), [
      Float32Array.of(1.5, -2),
      Int32Array.of(-7, 2 ** 31 - 1),
      Uint32Array.of(2 ** 32 - 1),
      Float32Array.of(0.5, 3),
    ]);
    await assert.rejects(() => i.floats(), { message: "Cannot read i32 as floats" });
    assert.deepEqual(await Tensor.from(gpu, [], [0, 3]).read(), new Float32Array(0));
    assert.deepEqual(await readAll([]), []);
  });
});

Deno.test("tensors refuse values of another number or kind", async () => {
  await withDevice((gpu) => {
    const message = "Cannot make a (2, 2) tensor from 3 values";
    assert.throws(() => Tensor.from(gpu, [1, 2, 3], [2, 2]), { name: "TypeError", message });
    assert.throws(() => Tensor.fromHalves(gpu, new Uint16Array(3), [2, 2], "f16"), { message });
    const doubles = new Float64Array(4) as unknown as Float32Array;
    assert.throws(() => Tensor.from(gpu, doubles, [4]), {
      name: "TypeError",
      message:
        "Cannot hold a Float64Array in a tensor: expected Float32Array, Int32Array or Uint32Array",
    });
    const x = Tensor.zeros(gpu, [4]);
    assert.throws(() => x.write(new Float32Array(3)), {
      message: "Cannot write 3 values into a (4) tensor",
    });
    assert.throws(() => x.write(new Int32Array(4)), {
      message: "Cannot write i32 values into a tensor of f32",
    });
    assert.throws(() => x.dim(1), {
      name: "RangeError",
      message: "Cannot take axis 1 of a (4) tensor",
    });
    assert.throws(() => x.alias([5]), { message: "Cannot view a (4) tensor as (5)" });
  });
});

Deno.test("f16 and bf16 are read back as floats, odd numbers of them too", async () => {
  await withDevice(async (gpu) => {
    const halves = Uint16Array.of(0x3c00, 0xc000, 0x7c00, 0x0001, 0x3555); // 1, -2, ∞, 2⁻²⁴, 0.333
    const brains = Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x0001, 0x3eab);
    const f16 = Tensor.fromHalves(gpu, halves, [5], "f16");
    const bf16 = Tensor.fromHalves(gpu, brains, [5], "bf16");
    assert.deepEqual([bytesOf([5], "f16"), bytesOf([4], "bf16")], [12, 8]);
    const [a, b] = await readAll([f16, bf16]);
    assert.deepEqual([...a], [1, -2, Infinity, 2 ** -24, 0.333251953125]);
    assert.deepEqual([...b], [1, -2, Infinity, 2 ** -133, 0.333984375]);
  });
});

Deno.test("tidy() gives back what was made, but for what it returns and what is kept", async () => {
  await withDevice(async (gpu) => {
    const live = () => gpu.buffers.liveCount;
    let kept: Tensor | undefined;
    const result = tidy(() => {
      for (let i = 0; i < 5; i++) counting(gpu, 10);
      kept = counting(gpu, 3).keep();
      return {
        one: counting(gpu, 4),
        list: [counting(gpu, 5), [counting(gpu, 6)]],
        map: new Map([["a", counting(gpu, 7)]]),
        other: "text",
      };
    });
    assert.equal(live(), 5);
    const [inner] = result.list[1] as Tensor[];
    const lengths = await readAll([result.one, inner, result.map.get("a")!, kept!]);
    assert.deepEqual(lengths.map((values) => values.length), [4, 6, 7, 3]);
    assert.equal(kept!.isDisposed, false);
  });
});

Deno.test("tidy() hands results to the scope around it, and cleans up when its function throws", async () => {
  await withDevice((gpu) => {
    const live = () => gpu.buffers.liveCount;
    tidy(() => {
      const inner = tidy(() => [counting(gpu, 3), counting(gpu, 4)]);
      assert.equal(live(), 2);
      assert.equal(inner[0].isDisposed, false);
    });
    assert.equal(live(), 0);
    assert.throws(() =>
      tidy(() => {
        counting(gpu, 3);
        throw new Error("stop");
      }), /stop/);
    assert.equal(live(), 0);
    const outside = counting(gpu, 2);
    tidy(() => outside);
    assert.equal(outside.isDisposed, false);
  });
});

Deno.test("a Scope is left and entered again, and gives back at its end what was not kept", async () => {
  await withDevice(async (gpu) => {
    const live = gpu.buffers.liveCount;
    const scope = new Scope();
    const a = scope.run(() => counting(gpu, 3));
    await new Promise((resolve) => setTimeout(resolve));
    const apart = counting(gpu, 3); // made while the scope is left: not its own
    const kept = scope.run(() => counting(gpu, 3));
    kept.keep();
    const [result, gone] = scope.run(() => [counting(gpu, 3), counting(gpu, 3)]);
    gone.dispose();
    scope.close([result]);
    assert.ok(a.isDisposed && gone.isDisposed);
    assert.ok(!kept.isDisposed && !apart.isDisposed && !result.isDisposed);
    assert.deepEqual([...await kept.floats()], [0, 1, 2]);
    for (const tensor of [kept, apart, result]) tensor.dispose();
    assert.equal(gpu.buffers.liveCount, live);
    assert.throws(() =>
      scope.run(() => {
        throw new Error("inside");
      }), /inside/);
    tidy(() => scope.run(() => counting(gpu, 3)));
    scope.close();
    assert.equal(gpu.buffers.liveCount, live);
  });
});

Deno.test("tidy() may return a read: what is read stays until it was recorded", async () => {
  await withDevice(async (gpu) => {
    const reading = tidy(() => {
      const [x, y] = [counting(gpu, 3), Tensor.empty(gpu, [3])];
      runLine(x, y, 2);
      return y.read();
    });
    Tensor.from(gpu, [9, 9, 9], [3]); // takes over the memory
    assert.deepEqual([...await reading], [0, 2, 4]);
  });
});

Deno.test("an alias shares memory until the last handle is given back", async () => {
  await withDevice(async (gpu) => {
    const x = counting(gpu, 6);
    const view = x.alias([2, 3]);
    assert.deepEqual([view.shape, view.buffer === x.buffer, x.isSole], [[2, 3], true, false]);
    x.dispose();
    x.dispose(); // twice is once
    assert.deepEqual([gpu.buffers.liveCount, view.isSole], [1, true]);
    assert.deepEqual([...await view.floats()], [0, 1, 2, 3, 4, 5]);
    view.dispose();
    assert.equal(gpu.buffers.liveCount, 0);
    assert.throws(() => view.buffer, {
      message: "internal: a (2, 3) tensor is used after its scope ended",
    });
    assert.throws(() => view.alias(), { message: "internal: alias of a tensor whose scope ended" });
  });
});

Deno.test("view() shares memory both ways, and keeps it until the last handle goes", async () => {
  await withDevice(async (gpu) => {
    const live = gpu.buffers.liveCount;
    const whole = counting(gpu, 256);
    const part = whole.view(64, [2, 32]);
    const inner = part.view(32, [4]);
    assert.deepEqual([...await part.floats()], Array.from({ length: 64 }, (_, i) => 64 + i));
    assert.deepEqual([...await inner.floats()], [96, 97, 98, 99]);
    part.write(new Float32Array(64).fill(7));
    inner.write(Float32Array.of(1, 2, 3, 4));
    const seen = await whole.floats();
    assert.deepEqual([...seen.subarray(94, 102)], [7, 7, 1, 2, 3, 4, 7, 7]);
    assert.deepEqual([seen[63], seen[128]], [63, 128]);
    const y = Tensor.empty(gpu, [64]);
    runLine(part, y, 1);
    gpu.clear(part.buffer);
    const z = Tensor.empty(gpu, [64]);
    runLine(part, z, 1);
    const [before, after] = await readAll([y, z]);
    assert.notDeepEqual(before, after, "kernels see what was written to a view");
    assert.equal((await whole.floats())[128], 128, "clearing a view leaves the rest");
    for (const t of [whole, part, y, z]) t.dispose();
    assert.equal(gpu.buffers.liveCount, live + 1, "a view holds the memory");
    inner.dispose();
    assert.equal(gpu.buffers.liveCount, live);
    assert.throws(() => counting(gpu, 8).view(4, [5]), {
      name: "RangeError",
      message: "Cannot view a (5) tensor from value 4 of 8",
    });
    const halves = Tensor.fromHalves(
      gpu,
      Uint16Array.of(0x3f80, 0x4000, 0x4040, 0x4080),
      [4],
      "bf16",
    );
    assert.deepEqual([...await halves.view(2, [2]).floats()], [3, 4]);
    assert.throws(() => halves.view(1, [2]), {
      message: "Cannot view a (2) tensor from value 1 of 4",
    });
    assert.throws(() => halves.view(2, [3]), {
      message: "Cannot view a (3) tensor from value 2 of 4",
    });
    assert.throws(() => Tensor.zeros(gpu, [4, 64], "int8").view(0, [64]), {
      message: "Cannot view part of int8 values",
    });
  });
});

Deno.test("moveTo() moves every handle's contents, and gives the old memory back", async () => {
  await withDevice(async (gpu) => {
    const live = gpu.buffers.liveCount;
    const flat = Tensor.zeros(gpu, [192]);
    const x = counting(gpu, 64);
    const same = x.alias([8, 8]);
    x.moveTo(flat.view(64, [64]));
    assert.equal(gpu.buffers.liveCount, live + 1);
    assert.deepEqual([...await same.floats()], Array.from({ length: 64 }, (_, i) => i));
    same.write(new Float32Array(64).fill(5));
    assert.deepEqual([...(await flat.floats()).subarray(62, 66)], [0, 0, 5, 5]);
    const small = flat.view(0, [32]);
    assert.throws(() => x.moveTo(small), {
      message: "Cannot move a (64) f32 tensor into a (32) f32 one",
    });
    for (const t of [small, flat, x]) t.dispose();
    assert.equal(gpu.buffers.liveCount, live + 1);
    same.dispose();
    assert.equal(gpu.buffers.liveCount, live);
  });
});
