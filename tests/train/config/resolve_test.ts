import assert from "node:assert/strict";
import { InputError, LabError, UsageError } from "../../../lib/errors.ts";
import {
  parseConfigFile,
  readConfigFile,
  resolveTrainConfig,
} from "../../../lib/train/config/resolve.ts";

const file = (values: object | string) =>
  parseConfigFile(typeof values === "string" ? values : JSON.stringify(values), "my.json");
const tiny = (values: object = {}, set: string[] = []) =>
  resolveTrainConfig({ file: file({ extends: "tiny", ...values }), set });

/** Fails unless `action` throws this class with this message and this repair. */
function refuses(
  action: () => unknown,
  kind: new (message: string) => LabError,
  message: RegExp,
  help: RegExp,
): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof kind, `${error}`);
    assert.match(error.message, message);
    assert.match(error.help ?? "", help);
    return true;
  });
}

Deno.test("resolveTrainConfig() lets later layers win field by field and knows each origin", () => {
  const { values, origins } = tiny({ seed: 3, optimizer: { beta1: 0.8, beta2: 0.9 } }, [
    "optimizer.beta2=0.99",
    "stages.unified.steps=7",
  ]);
  assert.deepEqual(values.optimizer, {
    beta1: 0.8,
    beta2: 0.99,
    epsilon: 1e-15,
    weightDecay: 0,
    clip: 1,
  });
  assert.equal(values.stages[2].steps, 7);
  assert.equal(origins["seed"], "my.json");
  assert.equal(origins["optimizer.beta1"], "my.json");
  assert.equal(origins["optimizer.beta2"], "--set");
  assert.equal(origins["optimizer.epsilon"], "default");
  assert.equal(origins["stages.2.steps"], "--set");
  assert.equal(origins["stages.2.learningRate"], "preset tiny (ours)");
});

Deno.test("resolveTrainConfig() takes a preset by flag instead of the one the file extends", () => {
  const { values } = resolveTrainConfig({
    preset: "small",
    file: file({ extends: "tiny", seed: 5 }),
  });
  assert.deepEqual([values.model.preset, values.seed], ["small", 5]);
});

Deno.test("a list of stages says which there are; one named as below begins as that one", () => {
  const { values, origins } = tiny({
    stages: [
      { name: "extra", steps: 2, learningRate: 1e-4, mix: { text: 1 } },
      { name: "unified", steps: 9 },
    ],
  });
  assert.deepEqual(values.stages.map(({ name }) => name), ["extra", "unified"]);
  const below = tiny().values.stages[2];
  assert.deepEqual(values.stages[1], { ...below, steps: 9 });
  assert.deepEqual(values.stages[0].mix, { t2i: 0, i2t: 0, interleaved: 0, text: 1 });
  assert.equal(values.stages[0].ema, 0.9999);
  assert.equal(origins["stages.1.steps"], "my.json");
  assert.equal(origins["stages.1.ema"], "preset tiny (ours)");
  assert.equal(origins["stages.0.ema"], "default");
});

Deno.test("a record of stages changes them by name or number and leaves the rest", () => {
  const before = tiny().values.stages;
  const { values } = tiny({ stages: { instruction: { steps: 1 }, 0: { warmup: 2 } } });
  assert.deepEqual(values.stages, [
    { ...before[0], warmup: 2 },
    { ...before[1], steps: 1 },
    before[2],
  ]);
});

Deno.test("a batch is samples or tokens: naming one kind drops the other", () => {
  assert.deepEqual(tiny({ batch: { maxTokens: 900 } }).values.batch, {
    expectedTokens: 32768,
    maxTokens: 900,
    preferBufferBefore: 16384,
    buffer: 50,
  });
  const back = tiny({ batch: { maxTokens: 900 } }, ["batch.buffer=3", "batch.samples=2"]);
  assert.deepEqual(back.values.batch, { samples: 2 });
  assert.equal(back.origins["batch.buffer"], undefined);
  const both = () => tiny({ batch: { samples: 2, maxTokens: 900 } });
  refuses(both, UsageError, /my\.json: unknown field batch\.maxTokens/, /not both/);
});

Deno.test("adapters begin with defaults once one field is given", () => {
  const { values } = tiny({}, ["lora.targets=und.layers.*.attn,gen"]);
  assert.deepEqual(values.lora, { rank: 8, alpha: 16, targets: ["und.layers.*.attn", "gen"] });
  assert.equal(tiny({ lora: { rank: 2 } }, ["lora=null"]).values.lora, null);
});

Deno.test("a source is named by its path unless it has a name", () => {
  const sources = [{ path: "/data/My Set.jsonl" }, { path: "x/y/", name: "other" }];
  const { values, origins } = tiny({ data: { sources } });
  assert.deepEqual(values.data.sources.map(({ name }) => name), ["my-set", "other"]);
  assert.equal(origins["data.sources.0.name"], "from its path");
  const moved = tiny({}, ["data.sources.0.path=data/records"]).values.data.sources[0];
  assert.deepEqual([moved.path, moved.name], ["data/records", "records"]);
  const none = { data: { sources: [] } };
  const first = tiny(none, ["data.sources.0.path=a/b.jsonl"]).values.data.sources;
  assert.deepEqual(first.map(({ path, name, split }) => [path, name, split]), [
    ["a/b.jsonl", "b", "train"],
  ]);
  refuses(
    () => tiny(none, ["data.sources.1.path=a"]),
    UsageError,
    /sources\.1: there is no/,
    /list/,
  );
});

Deno.test("--set reads a value as what its field holds", () => {
  const set = (flag: string) => tiny({}, [flag]).values;
  assert.equal(set("name=7").name, "7");
  assert.equal(set("optimizer.clip=null").optimizer.clip, null);
  assert.equal(set("optimizer.epsilon=1e-8").optimizer.epsilon, 1e-8);
  assert.equal(set("parallel.shardOptimizer=true").parallel.shardOptimizer, true);
  assert.deepEqual(set("stages.0.freeze=").stages[0].freeze, []);
  assert.deepEqual(set("stages.0.freeze=vit.*,text").stages[0].freeze, ["vit.*", "text"]);
  assert.deepEqual(set('stages.0.freeze=["a,b"]').stages[0].freeze, ["a,b"]);
  assert.deepEqual(set('data.sources=[{"path":"q"}]').data.sources, [
    {
      name: "q",
      path: "q",
      format: "auto",
      weight: null,
      split: "train",
      exclude: null,
      images: null,
    },
  ]);
});

Deno.test("unknown fields are refused with the nearest name, beside them or anywhere", () => {
  refuses(() => tiny({ seeed: 1 }), UsageError, /my\.json: unknown field seeed$/, /name is seed$/);
  refuses(() => tiny({ ema: 1 }), UsageError, /unknown field ema/, /name is stages\.\*\.ema$/);
  const inStage = () => tiny({ stages: { unified: { stps: 1 } } });
  refuses(inStage, UsageError, /unknown field stages\.2\.stps/, /name is stages\.2\.steps$/);
  refuses(
    () => tiny({}, ["stages.unified.stps=1"]),
    UsageError,
    /--set: unknown field stages\.unified\.stps/,
    /name is stages\.unified\.steps$/,
  );
  refuses(() => tiny({ xyzzy: 1 }), UsageError, /unknown field xyzzy/, /The fields are name, seed/);
  refuses(
    () => tiny({ stages: { fundation: {} } }),
    UsageError,
    /no such stage/,
    /stages\.foundation/,
  );
  refuses(
    () => resolveTrainConfig({ file: file('{"extends":"tiny","__proto__":{"seed":1}}') }),
    UsageError,
    /unknown field __proto__/,
    /The fields are/,
  );
});

Deno.test("a wrong value is refused with its path, origin, value and what it should be", () => {
  refuses(
    () => tiny({ stages: { foundation: { steps: "ten" } } }),
    UsageError,
    /^Cannot use stages\.0\.steps from my\.json: "ten" is not a whole number of at least 1$/,
    /^steps: /,
  );
  const beta = () => tiny({}, ["optimizer.beta1=1"]);
  refuses(
    beta,
    UsageError,
    /beta1 from --set: 1 is not a number of at least 0 and below 1/,
    /beta1:/,
  );
  const two = () => tiny({ seed: -1, model: { dtype: "f16" } });
  refuses(two, UsageError, /seed from my\.json: -1 .*; also wrong: model\.dtype$/, /./);
  refuses(() => tiny({ model: 3 }), UsageError, /model from my\.json: 3 is not a record with/, /./);
  refuses(() => tiny({ batch: { samples: 0 } }), UsageError, /batch\.samples .*: 0 is not a/, /./);
  const word = () => tiny({ batch: { samples: "x" } });
  refuses(word, UsageError, /^Cannot use batch\.samples from my\.json: "x" is not a whole/, /./);
  const format = () => tiny({ data: { sources: [{ path: "x", format: "csv" }] } });
  refuses(format, UsageError, /sources\.0\.format .*"csv" is not "auto", .* or "phantoms"$/, /./);
  refuses(
    () => tiny({}, ["seed=x"]),
    UsageError,
    /seed from --set: "x" is not a whole number/,
    /./,
  );
  refuses(() => tiny({}, ["seed"]), UsageError, /--set seed: it is not of the form/, /seed=1/);
  refuses(() => tiny({}, ["lora={"]), UsageError, /lora from --set: \{ is not JSON/, /record/);
});

Deno.test("what has no default must be set", () => {
  refuses(
    () => resolveTrainConfig({}),
    UsageError,
    /model\.preset is missing; .*: stages$/,
    /extends/,
  );
  const source = () => tiny({ data: { sources: [{ format: "t2i" }] } });
  refuses(source, UsageError, /data\.sources\.0\.name is missing; .*sources\.0\.path/, /./);
  refuses(
    () => resolveTrainConfig({ preset: "tiy" }),
    UsageError,
    /"tiy" from --preset/,
    /is tiny$/,
  );
});

Deno.test("a config file that is no JSON record is refused with line and column", () => {
  refuses(() => file('{"a":'), InputError, /my\.json: unexpected end, line 1 column 6$/, /extends/);
  refuses(() => file('{\n"a":1,\n"a":2}'), InputError, /repeated key "a", line 3 column/, /./);
  refuses(() => file("[1]"), InputError, /it holds \[1\], not a record/, /./);
  refuses(() => file({ extends: 3 }), InputError, /extends is 3/, /./);
  refuses(() => readConfigFile("/nowhere/a.json"), InputError, /a\.json: no such file$/, /path/);
  assert.deepEqual(parseConfigFile('\ufeff{"$schema":"./s.json","seed":1}', "bom").values, {
    seed: 1,
  });
});
