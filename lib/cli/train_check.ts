// `deno task train --check`: what a training would do, before it does anything: data, model, what trains in each
// stage, what it takes.

import { formatBytes } from "../gpu/buffers.ts";
import { openDevice } from "../gpu/device.ts";
import type { UniMedVLConfig } from "../model/config.ts";
import { parameterShapes } from "../model/shapes.ts";
import { dataFacts } from "../session/facts.ts";
import { sizesOf } from "../session/model.ts";
import { trainsIn } from "../session/stages.ts";
import { probeStages, type StageTrainability } from "../session/trainability.ts";
import { tableText } from "../show/notebook.ts";
import { checkTrainConfig } from "../train/config/check.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { LateProgress } from "./late_progress.ts";
import { trainabilityText } from "../train/trainability.ts";
import type { Context } from "./command.ts";
import type { trainFlags } from "./train_flags.ts";
import type { TrainPlan } from "./train_plan.ts";

/**
 * Opens data and model and prints what would happen; each loss goes backward once per stage, where memory allows.
 *
 * @throws {UsageError} If the settings do not fit data or model
 */
export async function checkTraining(
  { settings: { values: config }, run }: TrainPlan,
  context: Context<typeof trainFlags>,
): Promise<void> {
  const { print, emit, warn } = context;
  const model = await sizesOf(config);
  const progress = new LateProgress(context, "checking data");
  const { sources, heldOut, records } = await dataFacts(config.data, {
    onNote: (text) => print(text),
    onLook: (what, done, total) => progress.update({ label: what, step: done, total, fields: {} }),
    signal: context.signal,
  }).finally(() => progress.done());
  for (const finding of checkTrainConfig(config, { model, records })) {
    warn(`${finding.path}: ${finding.message}; ${finding.help}`);
  }
  print(`run: ${run}`);
  print("\ndata");
  print(tableText([...sources, ...heldOut].map(({ name, path, format, records }, i) => ({
    use: i < sources.length ? "train" : "held out",
    name,
    path,
    format,
    records: Object.entries(records).map(([task, n]) => `${task} ${n}`).join(", "),
  }))));
  const bytes = memoryOf(model, config);
  const { budget, adapter } = context.flags;
  print(`\nmemory besides activations: ${formatBytes(bytes)}; --budget is ${formatBytes(budget)}`);
  let tables: StageTrainability[] | undefined;
  if (bytes > budget) {
    warn("the weights and their state exceed --budget: which loss reaches what was not tried out");
    print(`\nwhat trains, by part and stage\n${tableText(trainingRows(model, config))}`);
  } else {
    const gpu = await openDevice({ adapter, budgetBytes: budget });
    try {
      tables = await probeStages(gpu, config);
    } finally {
      gpu.close();
    }
    for (const { stage, rows } of tables) print(`\nstage ${stage}\n${trainabilityText(rows)}`);
  }
  emit({ event: "check", run, sources, heldOut, bytes, ...(tables ? { tables } : {}) });
}

const PARTS: [part: string, holds: RegExp][] = [
  ["token table", /^text\.embed/],
  ["text head", /^text\.head/],
  ["image encoder", /^vit\./],
  ["connector", /^connector\./],
  ["und expert", /^und\./],
  ["gen expert", /^gen\./],
  ["latents in and out", /^latent\./],
];

/** Numbers of each part, and how many of them each stage trains. */
function trainingRows(
  model: UniMedVLConfig,
  config: TrainConfig,
): Record<string, string | number>[] {
  const shapes = [...parameterShapes(model)];
  const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
  return PARTS.map(([part, holds]) => {
    const own = shapes.filter(([name]) => holds.test(name));
    const row: Record<string, string | number> = {
      part,
      numbers: own.reduce((n, [, shape]) => n + sizeOf(shape), 0),
    };
    for (const stage of config.stages) {
      const trains = trainsIn(stage);
      row[stage.name] = config.lora
        ? 0
        : own.filter(([name]) => trains(name)).reduce((n, [, shape]) => n + sizeOf(shape), 0);
    }
    return row;
  });
}

/** Weights, gradients, two moments and, if kept, averages. */
function memoryOf(model: UniMedVLConfig, config: TrainConfig): number {
  const stages = config.stages.map(trainsIn);
  const averaged = config.stages.some(({ ema }) => ema !== null);
  let bytes = 0;
  for (const [name, shape] of parameterShapes(model)) {
    const n = shape.reduce((a, b) => a * b, 1);
    const trains = config.lora === null && stages.some((inStage) => inStage(name));
    const weight = config.model.dtype === "bf16" && shape.length === 2 ? (trains ? 6 : 2) : 4;
    bytes += n * (weight + (trains ? 12 + (averaged ? 4 : 0) : 0));
  }
  return bytes;
}
