import assert from "node:assert/strict";
import { rateAt, spansOf, stageAt, trainsIn } from "../../lib/session/stages.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { writeConfig } from "../../lib/model/own_config.ts";
import { sizesOf } from "../../lib/session/model.ts";
import type { StageConfig, TrainConfig } from "../../lib/train/config/schema.ts";

const stage = (name: string, steps: number, more: Partial<StageConfig> = {}) =>
  ({
    name,
    steps,
    learningRate: 0.4,
    schedule: "cosine",
    warmup: 2,
    minLearningRate: 0.1,
    freeze: [],
    ...more,
  }) as unknown as StageConfig;
const spans = spansOf([stage("a", 4), stage("b", 3, { schedule: "constant", warmup: 0 })]);

Deno.test("stageAt() changes stage with the step after a stage's last", () => {
  const names = [0, 3, 4, 6, 7].map((done) => stageAt(spans, done).stage.name);
  assert.deepEqual(names, ["a", "a", "b", "b", "b"]);
});

Deno.test("rateAt() never gives a first step of rate 0, and each stage has its own course", () => {
  const rates = [0, 1, 2, 3].map((done) => rateAt(spans[0], done));
  assert.equal(rates[0], 0.2); // k = 1 of a warm-up of 2
  assert.equal(rates[1], 0.4);
  assert.ok(Math.abs(rates[2] - (0.1 + 0.3 * 0.5)) < 1e-12); // half way down
  assert.ok(Math.abs(rates[3] - 0.1) < 1e-12);
  assert.deepEqual([4, 6].map((done) => rateAt(spans[1], done)), [0.4, 0.4]);
});

Deno.test("trainsIn() goes by patterns and never trains the position tables", () => {
  const trains = trainsIn(stage("c", 1, { freeze: ["vit", "und.layers.0-1.mlp"] }));
  assert.deepEqual(
    [
      "vit.norm.bias",
      "und.layers.1.mlp.up.weight",
      "und.layers.2.mlp.up.weight",
      "latent.position",
      "gen.norm.weight",
    ].map(trains),
    [false, false, true, false, true],
  );
});

Deno.test("sizesOf() takes a checkpoint's sizes, a folder's, or those of a preset", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const own = { ...PRESETS.tiny, maxLatentSize: 6 };
    await writeConfig(dir, own);
    const of = (model: { preset: string; checkpoint: string | null }) =>
      sizesOf({ model } as TrainConfig);
    assert.deepEqual(await of({ preset: "small", checkpoint: dir }), own);
    assert.deepEqual(await of({ preset: dir, checkpoint: null }), own);
    assert.deepEqual(await of({ preset: "small", checkpoint: null }), PRESETS.small);
    await assert.rejects(of({ preset: "huge", checkpoint: null }), /no such preset/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
