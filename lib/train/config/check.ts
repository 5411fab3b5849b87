// Whether the values of a config make sense together, and with what is known of the model and the data: everything
// that would otherwise fail hours later, or train nothing without saying so.

import { nearestName } from "../../data/edit_distance.ts";
import { UsageError } from "../../errors.ts";
import type { UniMedVLConfig } from "../../model/config.ts";
import type { MIX_TASKS, TrainConfig } from "./schema.ts";
import { checkStage } from "./check_stage.ts";
import { linearNames, matches } from "./targets.ts";

/** What is known besides the config; what is absent is not checked. */
export interface ConfigFacts {
  /** Sizes of the model. */
  model?: UniMedVLConfig;
  /** Entries of the tokenizer, special tokens included. */
  vocabulary?: number;
  /** Records of the opened training sources together, by task. */
  records?: Partial<Record<typeof MIX_TASKS[number], number>>;
}

/** Something wrong, or worth a second look. */
export interface Finding {
  severity: "error" | "warning";
  /** Dotted path of the field. */
  path: string;
  /** What is wrong, with the numbers. */
  message: string;
  help: string;
}

/** Notes findings. */
export type Report = (
  severity: Finding["severity"],
  path: string,
  message: string,
  help: string,
) => void;

/** All that is wrong with a config, in the order of its fields. */
export function findingsOf(config: TrainConfig, facts: ConfigFacts = {}): Finding[] {
  const findings: Finding[] = [];
  const report: Report = (severity, path, message, help) =>
    findings.push({ severity, path, message, help });
  checkModel(config, facts, report);
  checkData(config, report);
  checkBatch(config, report);
  const names = config.stages.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    report("error", "stages", `two stages are named ${twice}`, "give each stage its own name");
  }
  config.stages.forEach((stage, i) => checkStage(stage, i, config, facts, report));
  checkValidation(config, report);
  checkLora(config, facts, report);
  return findings;
}

/**
 * Refuses a config that cannot train.
 *
 * @returns what is only worth a second look
 * @throws {UsageError} Naming every error, with the repair of the first
 */
export function checkTrainConfig(config: TrainConfig, facts: ConfigFacts = {}): Finding[] {
  const findings = findingsOf(config, facts);
  const errors = findings.filter(({ severity }) => severity === "error");
  if (errors.length > 0) {
    const all = errors.map(({ path, message }) => `${path}: ${message}`).join("; ");
    throw new UsageError(`Cannot train by this config: ${all}`, { help: errors[0].help });
  }
  return findings;
}

function checkModel({ model, tokenizer }: TrainConfig, facts: ConfigFacts, report: Report): void {
  if (model.preset === "unimedvl-14b" && model.checkpoint === null) {
    report(
      "warning",
      "model.checkpoint",
      "14.6 billion parameters begin with random values",
      "give the folder of a checkpoint, as the authors did (BAGEL-7B-MoT)",
    );
  }
  if (tokenizer.kind === "qwen2" && tokenizer.dir === null && model.checkpoint === null) {
    report(
      "error",
      "tokenizer.dir",
      "there is no folder to read the tokenizer from",
      "give tokenizer.dir, or model.checkpoint with the tokenizer's files in it",
    );
  }
  if (facts.model?.latent.kind === "autoencoder" && model.checkpoint === null) {
    report(
      "error",
      "model.checkpoint",
      `the latents of ${model.preset} need a trained autoencoder`,
      "give a folder that has one, or train one: deno task train:vae",
    );
  }
  const entries = facts.model?.language.vocabSize;
  if (entries !== undefined && facts.vocabulary !== undefined && facts.vocabulary > entries) {
    report(
      "error",
      "tokenizer",
      `it has ${facts.vocabulary} entries, the model's table ${entries}`,
      "use a smaller vocabulary or another model",
    );
  }
}

function checkData({ data, tokenizer, model }: TrainConfig, report: Report): void {
  if (data.sources.length === 0) {
    report("error", "data.sources", "there is nothing to train on", 'add {"path": "your/folder"}');
  }
  for (const list of ["sources", "validation"] as const) {
    const names = data[list].map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice === undefined) continue;
    const help = "give each its own name: it is the key of its random order";
    report("error", `data.${list}`, `two sources are named ${twice}`, help);
  }
  for (const list of ["sources", "validation"] as const) {
    data[list].forEach(({ images, format }, i) => {
      if (images === null || ["auto", "unimedvl", "vlm"].includes(format)) return;
      const help = "set it to null: only paths in JSONL start from it";
      report("error", `data.${list}.${i}.images`, `${format} names no images by path`, help);
    });
  }
  const foreign = data.sources.find(({ path, format }) =>
    !/^phantoms(\?|$)/.test(path) && format !== "phantoms"
  );
  const drawnWords = tokenizer.kind === "words" && tokenizer.words === null;
  if (foreign && drawnWords && model.checkpoint === null) {
    report(
      "warning",
      "tokenizer.words",
      `the words of the phantoms will hardly be those of ${foreign.path}`,
      'give a file with {"type": "words", "words": [those of your texts]}',
    );
  }
}

function checkBatch({ batch }: TrainConfig, report: Report): void {
  if ("samples" in batch) return;
  const { expectedTokens, maxTokens, preferBufferBefore } = batch;
  if (expectedTokens > maxTokens) {
    report(
      "error",
      "batch.expectedTokens",
      `${expectedTokens} tokens are expected, at most ${maxTokens} fit`,
      "expectedTokens must not exceed maxTokens",
    );
  }
  if (preferBufferBefore > expectedTokens) {
    report(
      "warning",
      "batch.preferBufferBefore",
      `${preferBufferBefore} is above expectedTokens ${expectedTokens}: samples set aside always go first`,
      "a half of expectedTokens is usual",
    );
  }
}

function checkValidation(
  { validate, data, save, stages }: TrainConfig,
  report: Report,
): void {
  if (validate.every === 0 && (save.best || validate.patience !== null)) {
    const path = save.best ? "save.best" : "validate.patience";
    report("error", path, "nothing is ever validated", "set validate.every to a number of steps");
  }
  if (validate.patience !== null && stages.length > 1) {
    report(
      "error",
      "validate.patience",
      `it ends the training, and there are ${stages.length} stages`,
      "set it to null, or train the stages one by one",
    );
  }
  if (validate.every > 0 && data.validation.length === 0) {
    report(
      "error",
      "data.validation",
      `there is nothing to validate on every ${validate.every} steps`,
      "name a source there, or set validate.every to 0",
    );
  }
}

function checkLora(config: TrainConfig, facts: ConfigFacts, report: Report): void {
  const { lora, model } = config;
  if (lora === null) return;
  if (lora.targets.length === 0) {
    const help = 'name linear layers, such as "und.layers.*.attn.q"';
    report("error", "lora.targets", "no layer gets adapters", help);
  }
  if (model.checkpoint === null) {
    const help = "give model.checkpoint the folder of a trained model";
    report("warning", "lora", "the adapters stand over random weights", help);
  }
  if (!facts.model) return;
  const linears = linearNames(facts.model);
  for (const target of lora.targets) {
    if (linears.some(matches(target))) continue;
    const near = nearestName(target, linears);
    report(
      "error",
      "lora.targets",
      `${target} matches no linear layer`,
      near ? `the nearest name is ${near}` : 'such as "und.layers.*.attn.q" or "gen.layers.*.mlp"',
    );
  }
}
