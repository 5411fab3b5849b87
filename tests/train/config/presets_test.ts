import assert from "node:assert/strict";
import { z } from "zod";
import { PRESETS } from "../../../lib/model/config.ts";
import { parameterShapes } from "../../../lib/model/shapes.ts";
import { DEFAULTS, STAGE_DEFAULTS } from "../../../lib/train/config/defaults.ts";
import { fieldPaths, fieldsAt, type FieldSchema } from "../../../lib/train/config/fields.ts";
import {
  configFileSchema,
  configJson,
  configSchemaText,
  configText,
} from "../../../lib/train/config/print.ts";
import { originOf, type Preset, TRAIN_PRESETS } from "../../../lib/train/config/presets.ts";
import { parseConfigFile, resolveTrainConfig } from "../../../lib/train/config/resolve.ts";

const published = resolveTrainConfig({ preset: "unimedvl-14b" });

Deno.test("unimedvl-14b is the paper's table 12, and says so", () => {
  const { values: { stages }, origins } = published;
  const row = (key: keyof typeof stages[number]) => stages.map((stage) => stage[key]);
  assert.deepEqual(row("steps"), [85_000, 120_000, 70_000]);
  assert.deepEqual(row("learningRate"), [5e-5, 2.5e-5, 1e-5]);
  assert.deepEqual(row("maxTokensPerSample"), [18_500, 20_000, 27_000]);
  assert.deepEqual(row("ema"), [0.995, 0.995, 0.995]);
  assert.deepEqual(
    stages.map(({ mix: { text, t2i, i2t, interleaved } }) => [text, t2i, i2t, interleaved]),
    [
      [5, 25, 75, 0],
      [5, 45, 40, 10],
      [3, 35, 37, 25],
    ],
  );
  assert.deepEqual(stages.map(({ vae, vit }) => [vae.min, vae.max, vit.min, vit.max]), [
    [512, 1024, 378, 980],
    [512, 1024, 224, 518],
    [32, 1024, 378, 980],
  ]);
  assert.deepEqual(stages.map(({ freeze }) => freeze.includes("vit.*")), [false, true, true]);
  for (const { dropout, loss } of stages) {
    assert.deepEqual(dropout, { text: 0.3, vit: 0.05, vae: 0.05 });
    assert.deepEqual([loss.text, loss.flow], [0.25, 1]);
  }
  const fromPaper = Object.entries(origins).filter(([, origin]) => origin.endsWith("(paper)"));
  for (
    const path of ["steps", "learningRate", "mix.t2i", "vae.min", "vit.max", "dropout.text", "ema"]
  ) {
    assert.ok(fromPaper.some(([name]) => name === `stages.1.${path}`), path);
  }
  assert.equal(origins["stages.1.warmup"], "preset unimedvl-14b (BAGEL)");
  assert.equal(origins["stages.1.vae.stride"], "preset unimedvl-14b (BAGEL)");
  assert.equal(origins["validate.every"], "preset unimedvl-14b (ours)");
});

Deno.test("patterns of origins each say something that no earlier pattern said", () => {
  for (
    const [name, preset] of Object.entries(TRAIN_PRESETS) as [keyof typeof TRAIN_PRESETS, Preset][]
  ) {
    const paths = Object.entries(resolveTrainConfig({ preset: name }).origins)
      .filter(([, origin]) => origin.startsWith("preset")).map(([path]) => path);
    const deciding = new Set(paths.map((path) =>
      preset.origins.findIndex(([pattern]) => {
        const [parts, segments] = [pattern.split("."), path.split(".")];
        return parts.length <= segments.length &&
          parts.every((p, i) => p === "*" || p === segments[i]);
      })
    ));
    preset.origins.forEach(([pattern], i) => assert.ok(deciding.has(i), `${name}: ${pattern}`));
    assert.equal(originOf(name, "no.such.path"), "ours");
  }
});

Deno.test("small has the parameters it claims", () => {
  const sizes = [...parameterShapes(PRESETS.small).values()];
  const total = sizes.reduce((n, shape) => n + shape.reduce((size, side) => size * side, 1), 0);
  assert.equal(Math.round(total / 1e6), 44);
});

Deno.test("configText() shows every value with its origin, and what a mix of 105 comes to", () => {
  const lines = configText(published).split("\n");
  assert.equal(lines.length, Object.keys(published.origins).length);
  const line = (path: string) => lines.find((text) => text.startsWith(`${path} `))!;
  assert.match(line("stages.0.steps"), /= 85000 +# preset unimedvl-14b \(paper\)$/);
  assert.match(line("stages.0.mix.i2t"), /= 75 \(71\.4 % of the samples\) +# .*paper/);
  assert.match(line("optimizer.epsilon"), /= 1e-15 +# preset unimedvl-14b \(BAGEL\)$/);
  assert.match(line("lora"), /= null +# default$/);
  assert.ok(
    lines.findIndex((l) => l.startsWith("seed")) < lines.findIndex((l) => l.startsWith("lora")),
  );
});

Deno.test("configJson() is a config file that gives the same config", () => {
  const again = resolveTrainConfig({
    file: parseConfigFile(configJson(published), "printed.json"),
  });
  assert.deepEqual(again.values, published.values);
});

Deno.test("every field has a description, and every field of the files' schema that has a default says it", () => {
  for (const path of fieldPaths()) {
    const described = fieldsAt(path.split(".")).some(({ description }) => description);
    assert.ok(described, `${path} has no description`);
  }
  const schema = configFileSchema() as unknown as FieldSchema & {
    $defs: Record<string, FieldSchema>;
  };
  assert.equal(schema.properties!.accumulate.default, DEFAULTS.accumulate);
  assert.equal(schema.properties!.optimizer.properties!.epsilon.default, 1e-15);
  assert.deepEqual(
    schema.$defs.stage.properties!.vae.properties!.stride.default,
    STAGE_DEFAULTS.vae.stride,
  );
  assert.equal("default" in schema.$defs.stage.properties!.steps, false);
});

Deno.test("the JSON Schema takes the configs of the repository and refuses misspelt ones", async () => {
  const folder = new URL("../../../experiments/configs/", import.meta.url);
  assert.equal(await Deno.readTextFile(new URL("schema.json", folder)), configSchemaText());
  const schema = z.fromJSONSchema(configFileSchema() as Parameters<typeof z.fromJSONSchema>[0]);
  for (const name of ["tiny-curriculum", "small", "unimedvl-14b", "finetune-small"]) {
    const values = JSON.parse(await Deno.readTextFile(new URL(`${name}.json`, folder)));
    assert.ok(schema.safeParse(values).success, name);
  }
  const good = (values: object) => schema.safeParse(values).success;
  assert.ok(good({ extends: "tiny", stages: { unified: { steps: 3 } }, batch: { samples: 2 } }));
  assert.equal(good({ extends: "tiny", sed: 1 }), false);
  assert.equal(good({ extends: "tinny" }), false);
  assert.equal(good({ stages: { unified: { steps: 0 } } }), false);
  assert.equal(good({ stages: [{ stps: 1 }] }), false);
});
