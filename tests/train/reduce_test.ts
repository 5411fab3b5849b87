// The exchange of gradients in one process: a group of one, and a group that acts as two ranks with the same gradients.

import assert from "node:assert/strict";
import { type Communicator, SOLO } from "../../lib/comm/communicator.ts";
import { Scope, Tensor, tidy } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { backwardOrder, planBuckets } from "../../lib/train/bucket_plan.ts";
import { objectiveLoss, runObjective } from "../../lib/train/objective.ts";
import { GradientReducer } from "../../lib/train/reduce.ts";
import { Shards } from "../../lib/train/shards.ts";
import { addCounts } from "../../lib/train/ranks.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import {
  differing,
  EDIT,
  inputsOf,
  named,
  QUESTION,
  sameBits,
  smallModel,
  TO_IMAGE,
} from "../model/small.ts";

/** Two ranks that always hold the same; `log` is told of every sum. */
function twins(log: (event: string) => void = () => {}): Communicator {
  return {
    ...SOLO,
    size: 2,
    sum: (values) => {
      log(`sum ${values.length}`);
      values.forEach((v, i) => values[i] = 2 * v);
      return Promise.resolve();
    },
    sumNumbers: (values) => Promise.resolve(values.map((v) => 2 * v)),
    reduceScatter: (values, counts) => {
      log(`reduce-scatter ${counts}`);
      return Promise.resolve(values.slice(0, counts[0]).map((v) => 2 * v));
    },
  };
}

const TEXT = { name: "text", inputs: inputsOf([QUESTION]) };
const ALL = { name: "all", inputs: inputsOf([QUESTION, TO_IMAGE, EDIT]) };

Deno.test("backwardOrder() begins with the heads and ends with the first layers of the image encoder", () => {
  const names = [
    "text.embed.weight",
    "text.head.weight",
    "und.layers.0.attn.q.weight",
    "und.layers.10.attn.q.weight",
    "gen.layers.0.mlp.up.weight",
    "gen.layers.10.mlp.up.weight",
    "vit.embed.patch.weight",
    "vit.layers.0.attn.q.weight",
    "vit.layers.2.attn.q.weight",
    "connector.fc1.weight",
    "latent.in.weight",
    "lora.und.layers.2.attn.q.a",
  ];
  assert.deepEqual(backwardOrder(names.map((name) => [name, 0])).map(([name]) => name), [
    "text.head.weight",
    "gen.layers.10.mlp.up.weight",
    "und.layers.10.attn.q.weight",
    "lora.und.layers.2.attn.q.a",
    "gen.layers.0.mlp.up.weight",
    "und.layers.0.attn.q.weight",
    "latent.in.weight",
    "connector.fc1.weight",
    "vit.layers.2.attn.q.weight",
    "vit.layers.0.attn.q.weight",
    "vit.embed.patch.weight",
    "text.embed.weight",
  ]);
});

Deno.test(
  "planBuckets() cuts by size, leaves frozen ones out, and shares values out evenly",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    model.parameters.get("text.head.weight").requiresGrad = false;
    const entries = [...model.parameters.entries()];
    const trainable = entries.filter(([, tensor]) => tensor.requiresGrad).map(([name]) => name);
    const bucketBytes = 2 ** 14;
    for (const owners of [1, 3]) {
      const buckets = planBuckets(entries, { bucketBytes, owners });
      const slots = buckets.flatMap((bucket) => bucket.slots);
      assert.deepEqual(slots.map(({ name }) => name).sort(), [...trainable].sort());
      const load = new Array<number>(owners).fill(0);
      for (const bucket of buckets) {
        assert.ok(4 * bucket.size <= bucketBytes || bucket.slots.length === 1);
        assert.equal(bucket.counts.reduce((a, b) => a + b, 0), bucket.size);
        let end = 0;
        for (const { start, owner, tensor } of bucket.slots) {
          assert.equal(start, end);
          end += 64 * Math.ceil(tensor.size / 64);
          assert.ok(end <= bucket.counts.slice(0, owner + 1).reduce((a, b) => a + b, 0));
          load[owner] += tensor.size;
        }
      }
      // No rank holds more than another by more than one parameter.
      const largest = Math.max(...slots.map(({ tensor }) => tensor.size));
      assert.ok(Math.max(...load) - Math.min(...load) <= largest, `${load}`);
    }
    assert.throws(() => planBuckets(entries, { bucketBytes: 8 }), /Cannot plan buckets of 8 bytes/);
    model.dispose();
  },
);

Deno.test(
  "a window gives the sums of its micro-batches over ranks, in any size of bucket",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    // By hand: both micro-batches, then both twins.
    const parts = [ALL, TEXT].map((objective) =>
      tidy(() => runObjective(model, objective).gradients)
    );
    const [all, text] = [await named(model, parts[0]), await named(model, parts[1])];
    for (const part of parts) for (const gradient of part.values()) gradient.dispose();
    const want = new Map(
      [...all].map((
        [name, values],
      ) => [name, values.map((v, i) => 2 * (v + (text.get(name)?.[i] ?? 0)))]),
    );
    const live = gpu.buffers.liveCount;
    for (const bucketBytes of [256, 2 ** 12, 2 ** 25]) {
      for (const [first, second] of [[ALL, TEXT], [TEXT, ALL]]) {
        const reducer = new GradientReducer(twins(), model.parameters.entries(), { bucketBytes });
        const window = reducer.window(2);
        for (const objective of [first, second]) {
          const scope = new Scope();
          const { total } = scope.run(() => objectiveLoss(model, objective));
          await window.backward(scope, total);
          scope.close();
        }
        const loss = Tensor.from(gpu, [1.5], [1]);
        const { gradients, scalars, stats } = await window.finish([loss]);
        loss.dispose();
        assert.deepEqual(scalars, [3]);
        assert.ok(stats.bytes >= 4 * model.parameters.count * 0.9);
        const got = await named(model, gradients);
        for (const gradient of gradients.values()) gradient.dispose();
        // a + b = b + a: the bits do not depend on the order of two micro-batches.
        assert.deepEqual(differing(got, want), [], `${bucketBytes} bytes`);
      }
    }
    assert.equal(gpu.buffers.liveCount, live, "nothing is left");
    model.dispose();
  },
);

Deno.test(
  "gradients set out while backward goes on, and buckets in the order of their plan",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const log: string[] = [];
    let clock = 0;
    const reducer = new GradientReducer(
      twins((event) => log.push(event)),
      model.parameters.entries(),
      {
        bucketBytes: 2 ** 14,
        now: () => clock += 10, // each look at it is a turn of the event loop
      },
    );
    const window = reducer.window();
    const scope = new Scope();
    const { total } = scope.run(() => objectiveLoss(model, ALL));
    await window.backward(scope, total);
    const early = log.length;
    scope.close();
    const { gradients } = await window.finish();
    for (const gradient of gradients.values()) gradient.dispose();
    const pieces = reducer.buckets.flatMap(({ size }) => {
      const whole = Array.from({ length: Math.floor(size / 4096) }, () => 4096);
      return size % 4096 === 0 ? whole : [...whole, size % 4096];
    });
    assert.deepEqual(log, pieces.map((size) => `sum ${size}`));
    assert.ok(
      early >= 3 && early >= log.length / 3,
      `${early} of ${log.length} before backward ended`,
    );

    // A batch that reaches one expert only does not keep the other's buckets waiting.
    log.length = 0;
    const alone = reducer.window();
    const other = new Scope();
    const { total: text } = other.run(() => objectiveLoss(model, TEXT));
    await alone.backward(other, text);
    assert.ok(log.length >= 3, `${log.length} of ${reducer.buckets.length} before backward ended`);
    other.close();
    const reduced = await alone.finish();
    assert.deepEqual(log, pieces.map((size) => `sum ${size}`), "nor does it send them earlier");
    const reached = [...(await named(model, reduced.gradients)).keys()];
    assert.ok(reached.includes("und.layers.0.attn.q.weight"));
    assert.ok(!reached.includes("gen.layers.0.attn.q.weight"), "no rank has one");
    for (const gradient of reduced.gradients.values()) gradient.dispose();
    model.dispose();
  },
);

Deno.test("with updates shared out a rank gets the sums of what it owns", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu);
  const parts = tidy(() => runObjective(model, ALL).gradients);
  const want = await named(model, parts);
  for (const gradient of parts.values()) gradient.dispose();
  for (const bucketBytes of [2 ** 10, 2 ** 14]) { // some parameters are larger, then none
    const reducer = new GradientReducer(twins(), model.parameters.entries(), {
      bucketBytes,
      sharded: true,
    });
    const shards = new Shards(reducer);
    const own = [...shards.own(model.parameters).entries()].map(([name]) => name);
    const window = reducer.window();
    const scope = new Scope();
    const { total } = scope.run(() => objectiveLoss(model, ALL));
    await window.backward(scope, total);
    scope.close();
    const { gradients } = await window.finish();
    const got = await named(model, gradients);
    assert.deepEqual([...got.keys()], own);
    for (const [name, values] of got) {
      assert.ok(sameBits(values, want.get(name)!.map((v) => 2 * v)), name);
    }
    const optimizer = new AdamW(shards.own(model.parameters));
    optimizer.collect(gradients).forEach(({ flat }) => flat.dispose());
    optimizer.dispose();
  }
  assert.throws(() => new Shards(new GradientReducer(twins(), [])), /made without sharded/);
  model.dispose();
});

Deno.test(
  "a reducer refuses gradients of what was not trainable when it was made",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const reducer = new GradientReducer(SOLO, [...model.parameters.entries()].slice(1));
    const scope = new Scope();
    const { total } = scope.run(() => objectiveLoss(model, ALL));
    await assert.rejects(reducer.window().backward(scope, total), {
      name: "TypeError",
      message:
        "Cannot exchange the gradient of a (24, 32) tensor: it was no trainable parameter when " +
        "the reducer was made",
    });
    scope.close();
    model.dispose();
  },
);

Deno.test("addCounts() sums what losses are divided by", () => {
  const one = { textTokens: 2, textWeight: 0.5, flowTokens: 16 };
  assert.deepEqual(addCounts([one, one]), { textTokens: 4, textWeight: 1, flowTokens: 32 });
  assert.deepEqual(addCounts([]), { textTokens: 0, textWeight: 0, flowTokens: 0 });
});
