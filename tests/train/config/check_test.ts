import assert from "node:assert/strict";
import { UsageError } from "../../../lib/errors.ts";
import { PRESETS } from "../../../lib/model/config.ts";
import { checkTrainConfig, type ConfigFacts, findingsOf } from "../../../lib/train/config/check.ts";
import { parseConfigFile, resolveTrainConfig } from "../../../lib/train/config/resolve.ts";
import { linearNames } from "../../../lib/train/config/targets.ts";

const MODEL = { model: PRESETS.tiny };

/** Findings of `tiny` with changes, as `severity path: message`. */
function found(set: string[], facts: ConfigFacts = MODEL): string[] {
  const { values } = resolveTrainConfig({ preset: "tiny", set });
  return findingsOf(values, facts).map((f) => `${f.severity} ${f.path}: ${f.message}`);
}

Deno.test("tiny has nothing to find", () => {
  const records = { t2i: 1, i2t: 1, interleaved: 1, text: 1 };
  assert.deepEqual(found([], { ...MODEL, vocabulary: 100, records }), []);
});

/** A change of `tiny` and the one finding it must give. */
const CASES: [name: string, set: string[], finding: string, facts?: ConfigFacts][] = [
  [
    "a mix of zeros",
    ["stages.0.mix.t2i=0", "stages.0.mix.i2t=0", "stages.0.mix.text=0"],
    "error stages.foundation.mix: all weights are 0: no sample is ever drawn",
  ],
  [
    "a task without records",
    [],
    "error stages.unified.mix: it asks for interleaved, the sources have 9 t2i, 9 i2t, 9 text",
    { records: { t2i: 9, i2t: 9, text: 9, interleaved: 0 } },
  ],
  [
    "a size that is no multiple of the stride",
    ["stages.1.vae.min=30"],
    "error stages.instruction.vae.min: 30 is no multiple of the stride 8",
  ],
  [
    "min above max",
    ["stages.1.vit.min=64"],
    "error stages.instruction.vit.min: min 64 is above max 32",
  ],
  [
    "a stride that no patch fills",
    ["stages.0.vit.stride=4"],
    "error stages.foundation.vit.stride: 4 is no multiple of 8, the side of a ViT patch of this model",
  ],
  [
    "an image that leaves the position table",
    ["stages.0.vae.max=64"],
    "error stages.foundation.vae.max: 64 pixels are 8 latent tokens, the position table ends at 4",
  ],
  [
    "too little area for one patch",
    ["stages.0.vit.maxPixels=63"],
    "error stages.foundation.vit.maxPixels: 63 pixels are less than one square of 8",
  ],
  [
    "a warm-up longer than its stage",
    ["stages.0.warmup=161", "stages.0.steps=160"],
    "error stages.foundation.warmup: the warm-up is 161 steps, the stage 160",
  ],
  [
    "a falling rate with no step left after the warm-up",
    ["stages.2.warmup=80", "stages.2.steps=80"],
    "error stages.unified.warmup: the warm-up is 80 steps, the stage 80",
  ],
  [
    "a lowest rate above the rate",
    ["stages.2.minLearningRate=1"],
    "error stages.unified.minLearningRate: 1 is above the learning rate 0.0002",
  ],
  [
    "rate 0",
    ["stages.0.learningRate=0"],
    "warning stages.foundation.learningRate: at rate 0 nothing is learned",
  ],
  [
    "a task whose loss weighs nothing",
    ["stages.0.loss.flow=0"],
    "warning stages.foundation.loss: nothing is learned from t2i: text 0.25, flow 0",
  ],
  [
    "no loss at all",
    ["stages.0.loss.flow=0", "stages.0.loss.text=0"],
    "error stages.foundation.loss: nothing is learned from t2i, i2t, text: text 0, flow 0",
  ],
  [
    "a pattern that freezes nothing",
    ["stages.1.freeze=vti.*"],
    "error stages.instruction.freeze: vti.* matches no parameter",
  ],
  [
    "everything frozen",
    ["stages.1.freeze=und,gen,vit,text,connector,latent"],
    "error stages.instruction.freeze: every parameter is frozen",
  ],
  [
    "a batch that cannot hold one sample",
    ["batch.maxTokens=200", "batch.expectedTokens=100", "batch.preferBufferBefore=50"],
    "error stages.foundation.maxTokensPerSample: a sample may have 256 tokens, a batch only 200",
  ],
  [
    "a budget that holds no image",
    ["stages.0.maxTokensPerSample=17"],
    "error stages.foundation.maxTokensPerSample: 17 tokens do not hold the smallest vae image (18 tokens)",
  ],
  [
    "more tokens expected than fit",
    ["batch.expectedTokens=300", "batch.maxTokens=299", "batch.preferBufferBefore=50"],
    "error batch.expectedTokens: 300 tokens are expected, at most 299 fit",
  ],
  [
    "a buffer that is always preferred",
    ["batch.expectedTokens=300", "batch.maxTokens=300"],
    "warning batch.preferBufferBefore: 16384 is above expectedTokens 300: samples set aside always go first",
  ],
  ["no source", ["data.sources=[]"], "error data.sources: there is nothing to train on"],
  [
    "nothing to validate on",
    ["data.validation=[]"],
    "error data.validation: there is nothing to validate on every 80 steps",
  ],
  [
    "two sources of one name",
    ['data.sources=[{"path":"phantoms"},{"path":"phantoms"}]'],
    "error data.sources: two sources are named phantoms",
  ],
  [
    "two stages of one name",
    ["stages.1.name=unified"],
    "error stages: two stages are named unified",
  ],
  [
    "texts of other words",
    ['data.sources=[{"path":"mine"}]'],
    "warning tokenizer.words: the words of the phantoms will hardly be those of mine",
  ],
  [
    "a tokenizer from nowhere",
    ["tokenizer.kind=qwen2"],
    "error tokenizer.dir: there is no folder to read the tokenizer from",
  ],
  [
    "a vocabulary larger than the table",
    [],
    "error tokenizer: it has 129 entries, the model's table 128",
    { ...MODEL, vocabulary: 129 },
  ],
  [
    "a best checkpoint of no validation",
    ["validate.every=0", "save.best=true"],
    "error save.best: nothing is ever validated",
  ],
  [
    "patience without a validation",
    ["validate.every=0", "validate.patience=2"],
    "error validate.patience: nothing is ever validated",
  ],
  [
    "patience with stages to come",
    ["validate.patience=2"],
    "error validate.patience: it ends the training, and there are 3 stages",
  ],
  [
    "a folder of images for a format that names none",
    ['data.sources=[{"path":"phantoms","format":"phantoms","images":"pictures"}]'],
    "error data.sources.0.images: phantoms names no images by path",
  ],
  ["adapters nowhere", ["lora.rank=2"], "error lora.targets: no layer gets adapters"],
  [
    "adapters over random weights",
    ["lora.targets=und.layers.*.attn"],
    "warning lora: the adapters stand over random weights",
  ],
  [
    "adapters on a norm",
    ["lora.targets=und.layers.0.attn.norm"],
    "error lora.targets: und.layers.0.attn.norm matches no linear layer",
  ],
  [
    "14.6 billion random numbers",
    ["model.preset=unimedvl-14b"],
    "warning model.checkpoint: 14.6 billion parameters begin with random values",
    {},
  ],
  [
    "no optimizer to reset",
    ["stages.0.resetOptimizer=true"],
    "warning stages.foundation.resetOptimizer: there is no optimizer to reset yet",
  ],
];

for (const [name, set, finding, facts] of CASES) {
  Deno.test(`findingsOf() sees ${name}`, () => {
    const findings = found(set, facts ?? MODEL);
    assert.ok(findings.includes(finding), findings.join("\n") || "nothing found");
  });
}

Deno.test("checkTrainConfig() throws every error with the first repair, and gives back warnings", () => {
  const { values } = resolveTrainConfig({
    preset: "tiny",
    set: ["stages.0.warmup=999", "data.validation=[]"],
  });
  assert.throws(() => checkTrainConfig(values, MODEL), (error) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, /data\.validation: .*; |stages\.foundation\.warmup: .*; /);
    assert.equal(error.message.split("; ").length, 2);
    assert.match(error.help!, /./);
    return true;
  });
  const slow = resolveTrainConfig({ preset: "tiny", set: ["stages.0.learningRate=0"] });
  assert.deepEqual(checkTrainConfig(slow.values, MODEL).map(({ severity }) => severity), [
    "warning",
  ]);
});

Deno.test("linearNames() has the linear layers and no norm, bias or table", () => {
  const names = linearNames(PRESETS.tiny);
  for (const name of ["und.layers.2.mlp.down", "vit.embed.patch", "connector.fc1", "text.head"]) {
    assert.ok(names.includes(name), name);
  }
  const others = ["text.embed", "vit.embed.position", "connector.position", "und.norm"];
  assert.deepEqual(names.filter((name) => others.includes(name) || name.includes("orm")), []);
});

Deno.test("every config in experiments/configs resolves and can train", async () => {
  const folder = new URL("../../../experiments/configs/", import.meta.url);
  const seen: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (name === "schema.json") continue;
    const file = parseConfigFile(await Deno.readTextFile(new URL(name, folder)), name);
    const { values } = resolveTrainConfig({ file });
    const model = PRESETS[values.model.preset as keyof typeof PRESETS];
    assert.deepEqual(checkTrainConfig(values, { model }), [], name);
    seen.push(file.extends!);
  }
  assert.deepEqual(seen.sort(), ["finetune-small", "small", "tiny", "unimedvl-14b"]);
});
