import assert from "node:assert/strict";
import { tidy } from "../../lib/tensor.ts";
import { objectiveLoss } from "../../lib/train/objective.ts";
import { readReplay, writeReplay } from "../../lib/train/replay.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { EDIT, inputsOf, QUESTION, smallModel, TO_IMAGE } from "../model/small.ts";

const FACTS = {
  step: 12,
  micro: 1,
  stage: "unified",
  run: "runs/a/b/seed-0",
  checkpoint: "checkpoints/step-0000011",
  reason: "the flow loss is NaN",
  samples: ["train.jsonl line 3"],
};

Deno.test("a replayed batch has the losses it had, to the bit", GPU_TEST, async () => {
  const dir = await Deno.makeTempDir();
  try {
    const model = smallModel(await testGpu());
    const objective = {
      name: "all",
      inputs: inputsOf([QUESTION, EDIT, TO_IMAGE]),
      textWeight: 0.25,
      reweightText: true,
      totals: { text: 9, flow: 40 },
    };
    const path = `${dir}/batch.safetensors`;
    await writeReplay(path, { facts: FACTS, objective });
    const replay = await readReplay(path);
    assert.deepEqual(replay.facts, FACTS);
    const losses = async (each: typeof objective) => {
      const { total, text, flow } = tidy(() => {
        const { total, text, flow } = objectiveLoss(model, each);
        return { total, text: text!, flow: flow! };
      });
      const values = await Promise.all([total, text, flow].map(async (t) => (await t.floats())[0]));
      for (const t of [total, text, flow]) t.dispose();
      return values;
    };
    assert.deepEqual(await losses(replay.objective as typeof objective), await losses(objective));
    model.dispose();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("readReplay() refuses other safetensors files and says where replays lie", async () => {
  await assert.rejects(readReplay("experiments/tiny/model.safetensors"), {
    name: "InputError",
    message: "Cannot replay experiments/tiny/model.safetensors: it is no saved batch",
  });
});
