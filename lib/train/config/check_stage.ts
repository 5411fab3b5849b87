// What must hold within one stage of a curriculum.

import { nearestName } from "../../data/edit_distance.ts";
import type { SizeRule } from "../../data/transforms.ts";
import { latentStride } from "../../model/config.ts";
import type { ConfigFacts, Report } from "./check.ts";
import { MIX_TASKS, type StageConfig, type TrainConfig } from "./schema.ts";
import { matches, trainableNames } from "./targets.ts";

/** Notes what is wrong with stage `index`. */
export function checkStage(
  stage: StageConfig,
  index: number,
  config: TrainConfig,
  facts: ConfigFacts,
  report: Report,
): void {
  const path = `stages.${stage.name}`;
  checkRate(stage, path, report);
  checkMix(stage, path, facts, report);
  checkSizes(stage, path, facts, report);
  checkTokens(stage, path, config, facts, report);
  checkFreeze(stage, path, config, facts, report);
  if (index === 0 && stage.resetOptimizer) {
    const help = "it is new at the first stage: leave resetOptimizer out";
    report("warning", `${path}.resetOptimizer`, "there is no optimizer to reset yet", help);
  }
}

function checkRate(stage: StageConfig, path: string, report: Report): void {
  const { schedule, warmup, steps, learningRate, minLearningRate } = stage;
  if (warmup > steps || (schedule !== "constant" && warmup === steps)) {
    report(
      "error",
      `${path}.warmup`,
      `the warm-up is ${warmup} steps, the stage ${steps}`,
      "make the warm-up shorter than the stage",
    );
  }
  if (schedule !== "constant" && minLearningRate > learningRate) {
    report(
      "error",
      `${path}.minLearningRate`,
      `${minLearningRate} is above the learning rate ${learningRate}`,
      "the rate falls from learningRate to minLearningRate",
    );
  }
  if (learningRate === 0) {
    report(
      "warning",
      `${path}.learningRate`,
      "at rate 0 nothing is learned",
      "give a rate above 0",
    );
  }
}

function checkMix(stage: StageConfig, path: string, facts: ConfigFacts, report: Report): void {
  const { mix, loss } = stage;
  const asked = MIX_TASKS.filter((task) => mix[task] > 0);
  if (asked.length === 0) {
    const help = "give at least one task a weight above 0";
    return report("error", `${path}.mix`, "all weights are 0: no sample is ever drawn", help);
  }
  const learns = {
    t2i: loss.flow > 0,
    i2t: loss.text > 0,
    interleaved: loss.flow > 0 || loss.text > 0,
    text: loss.text > 0,
  };
  const idle = asked.filter((task) => !learns[task]);
  if (idle.length > 0) {
    report(
      idle.length === asked.length ? "error" : "warning",
      `${path}.loss`,
      `nothing is learned from ${idle.join(", ")}: text ${loss.text}, flow ${loss.flow}`,
      "give their loss a weight, or the task none in the mix",
    );
  }
  if (!facts.records) return;
  const { records } = facts;
  const absent = asked.filter((task) => !records[task]);
  if (absent.length === 0) return;
  const there = MIX_TASKS.filter((task) => records[task]);
  const zeros = absent.map((task) => `"${task}": 0`).join(", ");
  report(
    "error",
    `${path}.mix`,
    `it asks for ${absent.join(", ")}, the sources have ${
      there.map((task) => `${records[task]} ${task}`).join(", ") || "nothing"
    }`,
    absent.length < asked.length
      ? `give it {${zeros}}, or add a source that has them`
      : `give it tasks that there are${there.length ? `: ${there.join(", ")}` : ""}, leave the ` +
        "stage out by listing the others, or add a source",
  );
}

function checkSizes(stage: StageConfig, path: string, facts: ConfigFacts, report: Report): void {
  const { model } = facts;
  const sides = [
    {
      key: "vae" as const,
      used: stage.mix.t2i > 0 || stage.mix.interleaved > 0,
      unit: model && latentStride(model),
      table: model && model.maxLatentSize,
      what: "latent token",
      several: "latent tokens",
    },
    {
      key: "vit" as const,
      used: stage.mix.i2t > 0 || stage.mix.interleaved > 0,
      unit: model?.vision.patchSize,
      table: model?.vitMaxNumPatchPerSide,
      what: "ViT patch",
      several: "ViT patches",
    },
  ];
  for (const { key, used, unit, table, what, several } of sides) {
    const rule: SizeRule = stage[key];
    const at = `${path}.${key}`;
    if (rule.min > rule.max) {
      const help = "min must not exceed max";
      report("error", `${at}.min`, `min ${rule.min} is above max ${rule.max}`, help);
    }
    for (const edge of ["min", "max"] as const) {
      if (rule[edge] % rule.stride === 0) continue;
      const below = Math.max(1, Math.floor(rule[edge] / rule.stride)) * rule.stride;
      report(
        "error",
        `${at}.${edge}`,
        `${rule[edge]} is no multiple of the stride ${rule.stride}`,
        `give a multiple of ${rule.stride}, such as ${below} or ${below + rule.stride}`,
      );
    }
    if (rule.maxPixels < rule.stride ** 2) {
      report(
        "error",
        `${at}.maxPixels`,
        `${rule.maxPixels} pixels are less than one square of ${rule.stride}`,
        `give at least ${rule.stride ** 2}`,
      );
    }
    if (!used || unit === undefined || table === undefined) continue;
    if (rule.stride % unit !== 0) {
      report(
        "error",
        `${at}.stride`,
        `${rule.stride} is no multiple of ${unit}, the side of a ${what} of this model`,
        `give a multiple of ${unit}, such as ${Math.ceil(rule.stride / unit) * unit}`,
      );
    }
    if (rule.max > table * unit) {
      report(
        "error",
        `${at}.max`,
        `${rule.max} pixels are ${
          Math.ceil(rule.max / unit)
        } ${several}, the position table ends at ${table}`,
        `give at most ${table * unit}`,
      );
    }
  }
}

function checkTokens(
  stage: StageConfig,
  path: string,
  { batch }: TrainConfig,
  { model }: ConfigFacts,
  report: Report,
): void {
  const most = stage.maxTokensPerSample;
  if (!("samples" in batch) && batch.maxTokens < most) {
    report(
      "error",
      `${path}.maxTokensPerSample`,
      `a sample may have ${most} tokens, a batch only ${batch.maxTokens}`,
      "raise batch.maxTokens or lower maxTokensPerSample",
    );
  }
  if (!model) return;
  const tokens = (edge: number, unit: number) => (edge / unit) ** 2 + 2;
  const images: [string, boolean, SizeRule, number][] = [
    ["vae", stage.mix.t2i > 0 || stage.mix.interleaved > 0, stage.vae, latentStride(model)],
    ["vit", stage.mix.i2t > 0 || stage.mix.interleaved > 0, stage.vit, model.vision.patchSize],
  ];
  for (const [key, used, rule, unit] of images) {
    if (!used) continue;
    const [least, largest] = [tokens(rule.min, unit), tokens(rule.max, unit)];
    if (largest <= most) continue;
    report(
      least > most ? "error" : "warning",
      `${path}.maxTokensPerSample`,
      `${most} tokens do not hold ${
        least > most
          ? `the smallest ${key} image (${least}`
          : `the largest ${key} image (${largest}`
      } tokens)`,
      `raise it, or lower ${path}.${key}.${least > most ? "min" : "max"}`,
    );
  }
}

function checkFreeze(
  stage: StageConfig,
  path: string,
  { lora }: TrainConfig,
  { model }: ConfigFacts,
  report: Report,
): void {
  if (!model) return;
  const names = trainableNames(model);
  const tests = stage.freeze.map((pattern) => ({ pattern, test: matches(pattern) }));
  for (const { pattern, test } of tests) {
    // The autoencoder never trains with the rest: naming it is allowed and changes nothing.
    if (/^autoencoder(\.|$)/.test(pattern) || pattern.startsWith("lora.") || names.some(test)) {
      continue;
    }
    const tops = [...new Set(names.flatMap((name) => [name.split(".")[0], name]))];
    const near = nearestName(pattern.replace(/\.\*$/, ""), tops);
    report(
      "error",
      `${path}.freeze`,
      `${pattern} matches no parameter`,
      near ? `the nearest name is ${near}` : 'such as "vit.*" or "und.layers.0-3"',
    );
  }
  if (lora === null && names.every((name) => tests.some(({ test }) => test(name)))) {
    report("error", `${path}.freeze`, "every parameter is frozen", "leave something to train");
  }
}
