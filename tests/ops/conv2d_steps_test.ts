import assert from "node:assert/strict";
import { openDevice } from "../../lib/gpu/device.ts";
import { add } from "../../lib/ops/add.ts";
import { conv2d, padAll } from "../../lib/ops/conv2d.ts";
import { MOST_WORK } from "../../lib/ops/conv2d_bands.ts";
import { convolveSteps } from "../../lib/ops/conv2d_steps.ts";
import { groupNorm } from "../../lib/ops/group_norm.ts";
import { finish, finishAsync, Held, type Steps } from "../../lib/ops/steps.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

type Device = Awaited<ReturnType<typeof testGpu>>;

const SHAPE = [1, 43, 29, 32];

function inputs(gpu: Device, outputs: number): Record<string, Tensor> {
  const make = (seed: number, shape: number[]) =>
    Tensor.from(gpu, normals(shape.reduce((n, d) => n * d, 1), seed), shape);
  return {
    x: make(1, SHAPE),
    weight: make(2, [outputs, 32, 3, 3]),
    bias: make(3, [outputs]),
    gain: make(4, [32]),
    shift: make(5, [32]),
    sum: make(6, [1, 43, 29, outputs]),
  };
}

Deno.test(
  "convolveSteps() normalizes and adds on the way, bit for bit, at once and in bands",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const outputs of [40, 3]) {
      const t = inputs(gpu, outputs);
      const want = await tidy(() => {
        const normal = groupNorm(t.x, t.gain, t.shift, { swish: true });
        const y = conv2d(normal, t.weight, t.bias, { padding: padAll(1) });
        return (outputs % 4 === 0 ? add(t.sum, y) : y).floats();
      });
      for (const on of [gpu, await narrowGpu(2 ** 17)]) {
        const { x, weight, bias, gain, shift, sum } = inputs(on, outputs);
        const live = on.buffers.liveCount;
        const held = new Held();
        const into = outputs % 4 === 0 ? { into: sum } : {};
        const norm = { weight: gain, bias: shift };
        const options = { padding: padAll(1), norm, ...into };
        const y = finish(on, convolveSteps(held, x, weight, bias, options));
        assert.equal(on.buffers.liveCount, live + (outputs % 4 === 0 ? 0 : 1));
        assertClose(await y.floats(), want, 0, `${outputs} channels`);
        held.end();
        assert.equal(on.buffers.liveCount, live);
      }
    }
  },
);

Deno.test("convolveSteps() refuses a sum of another shape", GPU_TEST, async () => {
  const gpu = await testGpu();
  const { x, weight, bias, sum } = inputs(gpu, 32);
  assert.throws(() => finish(gpu, convolveSteps(new Held(), x, weight, bias, { into: sum })), {
    name: "TypeError",
    message: "Cannot add a convolution of (1, 41, 27, 32) to (1, 43, 29, 32): shapes must agree, " +
      "channels be a multiple of 4",
  });
});

/** Three steps of a launch's work, each taking a buffer. */
function* threeSteps(gpu: Device, held: Held): Steps<string> {
  try {
    for (let i = 0; i < 3; i++) {
      held.hold(Tensor.empty(gpu, [4]));
      yield MOST_WORK;
    }
    return "done";
  } finally {
    held.end();
  }
}

Deno.test("finishAsync() tells how far it is, and stops when it is told to", GPU_TEST, async () => {
  const gpu = await openDevice({ adapter: "any" });
  const total = 3 * MOST_WORK;
  const seen: number[] = [];
  const onProgress = ({ done }: { done: number }) => void seen.push(done / MOST_WORK);
  assert.equal(await finishAsync(gpu, threeSteps(gpu, new Held()), total, { onProgress }), "done");
  assert.deepEqual(seen, [1, 2, 3, 3]);

  const control = new AbortController();
  const reason = new Error("enough");
  const stopped = finishAsync(gpu, threeSteps(gpu, new Held()), total, {
    signal: control.signal,
    onProgress: ({ done }) => done === 2 * MOST_WORK && control.abort(reason),
  });
  assert.equal(gpu.buffers.liveCount, 0, "nothing runs before the caller goes on");
  await assert.rejects(stopped, reason);
  assert.equal(gpu.buffers.liveCount, 0, "what was held was given back");
  await assert.rejects(
    finishAsync(gpu, threeSteps(gpu, new Held()), total, { signal: control.signal }),
    reason,
  );
  gpu.close();
});
