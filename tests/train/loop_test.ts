import assert from "node:assert/strict";
import { NumericsError } from "../../lib/errors.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { type LoopOptions, type StepRecord, trainLoop } from "../../lib/train/loop.ts";
import type { Objective } from "../../lib/train/objective.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { differing, inputsOf, QUESTION, smallModel, TO_IMAGE, weightsOf } from "../model/small.ts";

const question: Objective = { name: "text", inputs: inputsOf([QUESTION]) };
const drawing = (): Objective => ({ name: "flow", inputs: inputsOf([TO_IMAGE]) });

const BASE: LoopOptions = {
  steps: 5,
  objectives: () => [question, drawing()],
  learningRate: () => 1e-3,
  clip: { maxNorm: 1, over: "objective" },
};

/** Runs a loop to its end or error. */
async function run(options: Partial<LoopOptions>) {
  const gpu = await testGpu();
  const model = smallModel(gpu);
  const optimizer = new AdamW(model.parameters);
  const records: StepRecord[] = [];
  let error: unknown;
  try {
    for await (const record of trainLoop(model, optimizer, { ...BASE, ...options })) {
      records.push(record);
    }
  } catch (thrown) {
    error = thrown;
  }
  const weights = await weightsOf(model);
  optimizer.dispose();
  model.dispose();
  return { records, error, weights };
}

Deno.test("trainLoop() gives one record per step, in order", GPU_TEST, async () => {
  for (const readEveryMs of [0, 1e9]) {
    const rates = [0.001, 0.002, 0.003, 0.002, 0.001];
    const { records, error } = await run({ readEveryMs, learningRate: (i) => rates[i] });
    assert.equal(error, undefined);
    assert.deepEqual(records.map(({ number }) => number), [1, 2, 3, 4, 5]);
    assert.deepEqual(records.map(({ learningRate }) => learningRate), rates);
    for (const { metrics, tokens, seconds } of records) {
      assert.deepEqual(Object.keys(metrics), ["text", "text/norm", "flow", "flow/norm"]);
      assert.ok(Object.values(metrics).every((v) => v > 0 && Number.isFinite(v)));
      assert.deepEqual(tokens, { text: 13, flow: 22 });
      assert.ok(seconds >= 0);
    }
    assert.ok(records[4].metrics.text < records[0].metrics.text);
  }
});

Deno.test("trainLoop() gives the same bits however often it reads", GPU_TEST, async () => {
  const [often, once] = [await run({ readEveryMs: 0 }), await run({ readEveryMs: 1e9 })];
  assert.deepEqual(differing(often.weights, once.weights), []);
  assert.deepEqual(
    often.records.map(({ metrics }) => metrics),
    once.records.map(({ metrics }) => metrics),
  );
});

Deno.test(
  "trainLoop() stops within the step in hand and gives out every record",
  GPU_TEST,
  async () => {
    const stop = new AbortController();
    let asked = 0;
    const { records, error } = await run({
      signal: stop.signal,
      readEveryMs: 1e9,
      steps: 1000,
      objectives: (i) => {
        asked++;
        if (i === 2) stop.abort();
        return BASE.objectives(i);
      },
    });
    assert.equal(error, undefined);
    assert.equal(asked, 3);
    assert.deepEqual(records.map(({ number }) => number), [1, 2, 3]);
    const none = await run({ signal: AbortSignal.abort() });
    assert.deepEqual(none.records, []);
  },
);

Deno.test(
  "trainLoop() names the loss and step that are not finite and keeps the weights before",
  GPU_TEST,
  async () => {
    const good = await run({ steps: 2 });
    for (const readEveryMs of [0, 1e9]) {
      const { records, error, weights } = await run({
        readEveryMs,
        objectives: (i) => {
          const flow = drawing();
          if (i === 2) flow.inputs.latents![7] = Infinity;
          return [question, flow];
        },
      });
      assert.ok(error instanceof NumericsError, String(error));
      assert.match(error.message, /^Cannot go on: flow is (NaN|Infinity) at step 3$/);
      assert.equal(error.help, "lower the learning rate");
      assert.deepEqual(
        records,
        good.records.map((r, i) => ({ ...r, seconds: records[i].seconds })),
      );
      assert.deepEqual(
        differing(weights, good.weights),
        [],
        "steps after it changed nothing either",
      );
    }
  },
);

Deno.test(
  "trainLoop() gives memory back when its reader leaves or a batch fails",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const optimizer = new AdamW(model.parameters);
    for await (const _ of trainLoop(model, optimizer, { ...BASE, steps: 1 })); // makes the moments
    const live = gpu.buffers.liveCount;
    for await (const _ of trainLoop(model, optimizer, { ...BASE, readEveryMs: 1e9 })) break;
    assert.equal(gpu.buffers.liveCount, live);
    const failing = trainLoop(model, optimizer, {
      ...BASE,
      readEveryMs: 1e9,
      objectives: (i) => {
        if (i === 2) throw new Error("no more data");
        return BASE.objectives(i);
      },
    });
    await assert.rejects(Array.fromAsync(failing), /no more data/);
    assert.equal(gpu.buffers.liveCount, live);
    optimizer.dispose();
    model.dispose();
  },
);
