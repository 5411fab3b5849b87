import assert from "node:assert/strict";
import {
  backward,
  backwardSteps,
  detach,
  isRecording,
  needsGrad,
  noGrad,
  parameter,
  record,
  recordAll,
  reshape,
} from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { counting, runLine, withDevice } from "./kernels.ts";

/** `a · x + b`, differentiable. */
function affine(x: Tensor, a: number, b = 0): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  runLine(x, y, a, b);
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(x.gpu, x.shape);
    runLine(dy, dx, a);
    return [dx];
  });
}

/** `x + y` by hand: the gradient of both is dy itself. */
function plus(x: Tensor, y: Tensor): Tensor {
  const z = noGrad(() => affine(x, 1));
  const moved = Tensor.empty(x.gpu, x.shape);
  x.gpu.copy(z.buffer, 0, moved.buffer, 0, 4 * x.size);
  return record(moved, [x, y], (dz) => [dz, dz]);
}

const ones = (gpu: Gpu, n: number) => Tensor.from(gpu, new Float32Array(n).fill(1), [n]);
const values = async (x: Tensor | undefined) => [...await x!.floats()];

Deno.test("backward() adds up over every way from the loss to a parameter", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 3));
    // a diamond: h feeds two branches, which meet again, and w enters once more
    const h = affine(w, 2);
    const y = plus(plus(affine(h, 3), affine(h, 5)), w);
    const grads = backward(y, { seeds: [counting(gpu, 3)] });
    assert.deepEqual(await values(grads.get(w)), [0, 17, 34]);
  });
});

Deno.test("backward() takes one tensor twice as input, and leaves the seed alone", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 3));
    const seed = ones(gpu, 3);
    const grads = backward(plus(w, w), { seeds: [seed] });
    assert.deepEqual(await values(grads.get(w)), [2, 2, 2]);
    assert.deepEqual(await values(seed), [1, 1, 1]);
    assert.notEqual(grads.get(w)!.buffer.id, seed.buffer.id);
  });
});

Deno.test("backward() sums several losses, each with its seed, the same one twice too", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 2));
    const [a, b] = [affine(w, 2), affine(w, 10)];
    const seeds = [[1, 2], [1, 1], [3, 0]].map((v) => Tensor.from(gpu, v, [2]));
    const grads = backward([a, b, a], { seeds });
    assert.deepEqual(await values(grads.get(w)), [18, 14]);
  });
});

Deno.test("backward() starts a scalar at one and refuses others without a seed", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(Tensor.from(gpu, [4], [1]));
    assert.deepEqual(await values(backward(affine(w, 7)).get(w)), [7]);
    const wide = parameter(counting(gpu, 3));
    assert.throws(() => backward(affine(wide, 2)), {
      name: "TypeError",
      message: "Cannot start backward at a (3) tensor without seeds",
    });
  });
});

Deno.test("no gradient passes detach(), noGrad() or what needs none", async () => {
  await withDevice(async (gpu) => {
    const [w, plain] = [parameter(counting(gpu, 2)), counting(gpu, 2)];
    const silent = noGrad(() => {
      assert.equal(isRecording(), false);
      return affine(w, 2);
    });
    assert.equal(isRecording(), true);
    for (const x of [detach(affine(w, 2)), silent, affine(plain, 2)]) {
      assert.equal(needsGrad(x), false);
      const grads = backward(plus(affine(w, 3), x), { seeds: [ones(gpu, 2)] });
      assert.deepEqual(await values(grads.get(w)), [3, 3]);
      assert.equal(grads.size, 1);
    }
    assert.throws(() => noGrad(() => assert.fail("stop")), /stop/);
    assert.equal(isRecording(), true);
  });
});

Deno.test("an op is told which gradients are needed, and those it gives in vain are freed", async () => {
  await withDevice((gpu) => {
    const [w, plain] = [parameter(counting(gpu, 2)), counting(gpu, 2)];
    const told: boolean[][] = [];
    const z = record(counting(gpu, 2), [plain, w], (dz, needs) => {
      told.push([...needs]);
      return [counting(gpu, 2), dz];
    });
    const before = gpu.buffers.liveCount;
    const seed = ones(gpu, 2);
    const grads = backward(z, { seeds: [seed] });
    assert.deepEqual(told, [[false, true]]);
    assert.deepEqual([...grads.keys()], [w]);
    assert.equal(gpu.buffers.liveCount, before + 1); // the seed, which is the gradient of w
    const few = record(counting(gpu, 2), [w, w], (dz) => [dz]);
    assert.throws(
      () => backward(few, { seeds: [seed] }),
      /^Error: internal: 1 gradients for 2 inputs$/,
    );
  });
});

Deno.test("an op may return a tensor it was given: the original is not freed", async () => {
  await withDevice(async (gpu) => {
    const [w, factor] = [parameter(counting(gpu, 3)), counting(gpu, 3).keep()];
    const y = record(counting(gpu, 3), [w, factor], () => [factor, null]); // slope of w · factor at dy = 1
    const grads = backward([y, affine(w, 1)], { seeds: [ones(gpu, 3), ones(gpu, 3)] });
    assert.deepEqual(await values(grads.get(w)), [1, 2, 3]);
    assert.deepEqual(await values(factor), [0, 1, 2]);
  });
});

Deno.test("wanted gradients come back for what is no parameter, and its values stay", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 2));
    const h = affine(w, 2);
    const y = affine(h, 5);
    const grads = backward(y, { seeds: [ones(gpu, 2)], wanted: [h] });
    assert.deepEqual(await values(grads.get(h)), [5, 5]);
    assert.deepEqual(await values(grads.get(w)), [10, 10]);
    assert.deepEqual(await values(h), [0, 2]);
  });
});

Deno.test("a parameter that was computed keeps its memory after backward()", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 2));
    const copy = parameter(affine(w, 2));
    const grads = backward(affine(copy, 3), { seeds: [ones(gpu, 2)] });
    assert.deepEqual(await values(grads.get(copy)), [3, 3]);
    assert.deepEqual(await values(grads.get(w)), [6, 6]);
    assert.deepEqual(await values(copy), [0, 2]);
  });
});

Deno.test("onGradient takes each parameter's gradient once it is complete, last layers first", async () => {
  await withDevice(async (gpu) => {
    const live = gpu.buffers.liveCount;
    const [first, shared, last] = [1, 2, 3].map(() => parameter(counting(gpu, 2)));
    const told: string[] = [];
    const sums: number[][] = [];
    const grads = new Map<Tensor, Tensor>();
    const names = new Map([[first, "first"], [shared, "shared"], [last, "last"]]);
    // `shared` is used near the loss and far from it: complete only after its farther use.
    const h = plus(plus(shared, first), affine(first, 4));
    const y = plus(plus(last, affine(h, 2)), affine(shared, 3));
    const none = parameter(counting(gpu, 2));
    plus(none, y); // not on the way to the loss
    let reached = 0;
    const result = backward(y, {
      seeds: [ones(gpu, 2)],
      onReach: (parameters) => {
        assert.deepEqual(parameters, new Set([first, shared, last]));
        reached++;
      },
      onGradient: (parameter, gradient) => {
        assert.equal(reached, 1);
        told.push(names.get(parameter)!);
        grads.set(parameter, gradient);
      },
    });
    assert.equal(result.size, 0);
    for (const name of [last, shared, first]) sums.push(await values(grads.get(name)));
    assert.deepEqual(sums, [[1, 1], [5, 5], [10, 10]]);
    assert.deepEqual([...told].sort(), ["first", "last", "shared"], "each is told once");
    assert.equal(told[0], "last");
    assert.ok(gpu.buffers.liveCount > live);
  });
});

Deno.test("onGradient leaves wanted gradients to the result, and passes through computed parameters", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 2));
    const copy = parameter(affine(w, 2));
    const told = new Map<Tensor, Tensor>();
    const onGradient = (parameter: Tensor, gradient: Tensor) => told.set(parameter, gradient);
    const result = backward(affine(copy, 3), { seeds: [ones(gpu, 2)], wanted: [w], onGradient });
    assert.deepEqual(await values(told.get(copy)), [3, 3]);
    assert.deepEqual(await values(result.get(w)), [6, 6]);
    assert.equal(told.has(w), false);
    const root = parameter(counting(gpu, 2));
    backward(root, { seeds: [ones(gpu, 2)], onGradient });
    assert.deepEqual(await values(told.get(root)), [1, 1]);
  });
});

Deno.test("backwardSteps() goes one op at a time and ends with the same gradients", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 2));
    const steps = backwardSteps(affine(affine(affine(w, 2), 3), 5), { seeds: [ones(gpu, 2)] });
    let count = 0;
    let step = steps.next();
    for (; !step.done; step = steps.next()) {
      count++;
      await new Promise((resolve) => setTimeout(resolve));
    }
    assert.equal(count, 3);
    assert.deepEqual(await values(step.value.get(w)), [30, 30]);
  });
});

Deno.test("retainGraph allows a second pass; without it the second pass is refused", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 2));
    const y = affine(affine(w, 2), 3);
    const seeds = [ones(gpu, 2)];
    const first = backward(y, { seeds, retainGraph: true });
    const second = backward(y, { seeds });
    assert.deepEqual(await values(first.get(w)), [6, 6]);
    assert.deepEqual(await values(second.get(w)), [6, 6]);
    const message = "Cannot go backward twice through one graph: its activations were freed " +
      "(see retainGraph)";
    assert.throws(() => backward(y, { seeds }), { name: "TypeError", message });
    assert.throws(() => backward(affine(y, 2), { seeds }), { name: "TypeError", message });
  });
});

Deno.test("backward() frees activations and inner gradients, whether or not a gradient reached them", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 64));
    const live = () => gpu.buffers.liveCount;
    tidy(() => {
      let h = affine(w, 1);
      for (let i = 0; i < 10; i++) h = affine(h, 1);
      const blocked = record(counting(gpu, 64), [affine(h, 2)], () => [null]);
      const loss = plus(affine(h, 1), blocked);
      const seed = ones(gpu, 64);
      const start = live();
      gpu.buffers.peakBytes = gpu.buffers.liveBytes;
      const grads = backward(loss, { seeds: [seed] });
      assert.deepEqual([...grads.keys()], [w]);
      // what stays: parameter, seed, loss and the copy it was made from, gradient
      assert.equal(live(), 5);
      assert.ok(start > 14);
      // freed on the way: at no time more than a few gradients on top
      assert.ok(gpu.buffers.peakBytes <= (start + 3) * 256, `${gpu.buffers.peakBytes}`);
    });
    assert.equal(live(), 1);
    await gpu.settle();
  });
});

/** `[2x, 3x]`; the gradient of an output that nobody reads is null, and a lone first one is passed on as it is. */
function twoOf(x: Tensor, seen: boolean[][] = []): [Tensor, Tensor] {
  const ys = noGrad((): [Tensor, Tensor] => [affine(x, 2), affine(x, 3)]);
  recordAll(ys, [x, x], ([first, second], needs) => {
    seen.push([first !== null, second !== null, ...needs]);
    return [first && noGrad(() => affine(first, 2)), second];
  });
  return ys;
}

Deno.test("recordAll() brings the gradients of several outputs together", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 3));
    const seen: boolean[][] = [];
    const grads = tidy(() => {
      const [a, b] = twoOf(affine(w, 1), seen);
      return backward(plus(plus(a, affine(b, 5)), a), { seeds: [ones(gpu, 3)] });
    });
    assert.deepEqual(seen, [[true, true, true, true]], "once");
    assert.deepEqual(await values(grads.get(w)), [9, 9, 9]);
    const [, second] = tidy(() => twoOf(w, seen));
    assert.equal(gpu.buffers.liveCount, 4, "weight, gradient, two outputs");
    second.dispose();
  });
});

Deno.test("recordAll() gives null for outputs that no loss depends on, and frees the rest", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 3));
    const seed = ones(gpu, 3);
    const grads = tidy(() => backward(twoOf(affine(w, 7))[1], { seeds: [seed] }));
    assert.deepEqual(await values(grads.get(w)), [7, 7, 7]);
    assert.equal(gpu.buffers.liveCount, 3, "weight, seed, gradient");
    const again = tidy(() => {
      const [y] = twoOf(w);
      const first = backward(y, { seeds: [seed], retainGraph: true });
      return [first.get(w)!, backward(y, { seeds: [seed] }).get(w)!];
    });
    for (const grad of again) assert.deepEqual(await values(grad), [2, 2, 2]);
    const [y] = noGrad(() => twoOf(w));
    assert.equal(needsGrad(y), false);
  });
});

Deno.test("recordAll() frees what it saves with the gradient, or at once where nothing is recorded", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 3));
    const op = (x: Tensor) => {
      const y = noGrad(() => affine(x, 2));
      const [factor, kept] = [counting(gpu, 3), y.alias()];
      recordAll([y], [x], () => {
        assert.equal(kept.isDisposed, false);
        return [noGrad(() => affine(factor, 1))];
      }, [factor, kept]);
      return y;
    };
    tidy(() => {
      const h = op(w);
      const y = op(h);
      const seed = ones(gpu, 3);
      const before = gpu.buffers.liveCount; // w; an output, a factor and a knot twice; the seed
      assert.equal(before, 8);
      const grads = backward(y, { seeds: [seed] });
      assert.equal(gpu.buffers.liveCount, 4, "weight, loss, seed, gradient");
      assert.deepEqual([...grads.keys()], [w]);
    });
    const before = gpu.buffers.liveCount;
    noGrad(() => op(w)).dispose();
    assert.equal(gpu.buffers.liveCount, before);
    await gpu.settle();
  });
});

Deno.test("reshape() passes gradients in the input's shape", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 6));
    const y = affine(reshape(w, [2, 3]), 2);
    assert.deepEqual(y.shape, [2, 3]);
    const grads = backward(y, { seeds: [Tensor.from(gpu, [0, 1, 2, 3, 4, 5], [2, 3])] });
    assert.deepEqual(grads.get(w)!.shape, [6]);
    assert.deepEqual(await values(grads.get(w)), [0, 2, 4, 6, 8, 10]);
  });
});

Deno.test("a chain of 20 000 ops does not overflow the stack", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(Tensor.from(gpu, [1], [1]));
    let y = w;
    for (let i = 0; i < 20_000; i++) y = record(y.alias(), [y], (dy) => [dy]);
    assert.deepEqual(await values(backward(y).get(w)), [1]);
  });
});

Deno.test("gradients are the same bits in every run", async () => {
  await withDevice(async (gpu) => {
    const w = parameter(counting(gpu, 100));
    const run = async () => {
      const grads = tidy(() => {
        const h = affine(w, 0.1);
        const y = plus(plus(affine(h, 0.3), affine(h, 0.7)), affine(h, 1e-3));
        return backward(y, { seeds: [counting(gpu, 100)] });
      });
      return await values(grads.get(w));
    };
    assert.deepEqual(await run(), await run());
  });
});
