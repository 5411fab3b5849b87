// What a loader is told, and what these settings must satisfy.

import { UsageError } from "../../errors.ts";
import type { PackOptions } from "../pack.ts";
import { type ImageRules, type ResizeRule } from "./plan.ts";
import { type Task, TASKS } from "./record.ts";
import type { WeightedSource } from "./slots.ts";
import type { TokenizerSpec } from "./tokenizer_spec.ts";

/** Batches of a number of samples. */
export interface SampleBatches {
  samples: number;
}

/** Batches of a number of tokens: one packed sequence by the reference's rules. */
export interface TokenBatches {
  /** A batch with this many is done. */
  expectedTokens: number;
  /** No batch has more. */
  maxTokens: number;
  /** Larger samples are left out. */
  maxTokensPerSample: number;
  /** Shorter batches take the oldest sample that had not fitted before. */
  preferBufferBefore: number;
  /** Most samples that wait because they did not fit. */
  buffer: number;
  /** Tasks that each batch has a sample of. Default: none. */
  mandatory?: readonly Task[];
}

/** Settings of a loader. */
export interface LoaderOptions {
  /** They stay open when the loader is closed. */
  sources: readonly WeightedSource[];
  /** Shares of the tasks, any numbers from 0; normalised. */
  mix: Partial<Record<Task, number>>;
  batch: SampleBatches | TokenBatches;
  /** Larger samples are left out. Default: that of token batches, else none. */
  maxTokensPerSample?: number;
  /** Sizes of both image sides. */
  images: ImageRules;
  tokenizer: TokenizerSpec;
  pack: Omit<PackOptions, "dropout" | "drawDropout" | "drawTimestep" | "padTo">;
  /** Probability of dropping a condition, by kind. */
  dropout: { text: number; vit: number; vae: number };
  seed: number;
  /** Default: 0 of 1. */
  rank?: number;
  ranks?: number;
  /** Workers that decode, resize and tokenise; 0: in this thread. */
  workers: number;
  /** Batches made ahead. Default: 2. */
  prefetch?: number;
  /** Share of the records read that may be bad (of the first 100: of 100). Default 0: the first bad one stops. */
  mostBad?: number;
  /** Packs as the reference does, bugs included, in one unchanging order. Needs token batches. */
  reference?: boolean;
  /** Called for every record left out, as its batch is made. */
  onBad?: (message: string) => void;
  /** Milliseconds since any fixed moment. Default: `performance.now`. */
  now?: () => number;
}

/** @throws {UsageError} Naming the setting and its repair */
export function checkLoaderOptions(options: LoaderOptions): void {
  const { batch, ranks = 1, rank = 0, prefetch = 2, mostBad = 0 } = options;
  whole("seed", options.seed, 0);
  whole("ranks", ranks, 1);
  whole("rank", rank, 0);
  if (rank >= ranks) refuse(`rank is ${rank} of ${ranks}`, "Ranks are counted from 0");
  whole("workers", options.workers, 0);
  whole("prefetch", prefetch, 1);
  if (!(mostBad >= 0 && mostBad <= 1)) refuse(`mostBad is ${mostBad}`, "Give a share from 0 to 1");
  if (options.sources.length === 0) refuse("there is no source", "Give at least one source");
  for (const { source, weight = 1 } of options.sources) {
    if (Number.isFinite(weight) && weight >= 0) continue;
    refuse(`the weight of ${source.name} is ${weight}`, "Give a number from 0 up");
  }
  for (const [task, share] of Object.entries(options.mix)) {
    if (!TASKS.includes(task as Task)) {
      refuse(`the mix has ${JSON.stringify(task)}`, `Tasks are ${TASKS.join(", ")}`);
    }
    if (!(Number.isFinite(share) && share >= 0)) {
      refuse(`the mix has ${share} of ${task}`, "Give a number from 0 up");
    }
  }
  for (const [kind, share] of Object.entries(options.dropout)) {
    if (share >= 0 && share <= 1) continue;
    refuse(`dropout of ${kind} is ${share}`, "Give a probability from 0 to 1");
  }
  if (options.maxTokensPerSample !== undefined) {
    whole("maxTokensPerSample", options.maxTokensPerSample, 1);
  }
  if ("samples" in batch) {
    whole("batch.samples", batch.samples, 1);
    if (options.reference) refuse("reference packing counts tokens", "Give batch.expectedTokens");
  } else checkTokenBatches(batch);
  const { pack, images } = options;
  const apart = "mandatory" in batch ? batch.mandatory : [];
  const uses = (...tasks: Task[]) =>
    tasks.some((task) => (options.mix[task] ?? 0) > 0 || apart.includes(task));
  if (uses("t2i", "interleaved")) {
    checkRule("vae", images.vae, pack.latentPixels, pack.latentSide, pack.positions);
  }
  if (uses("i2t", "interleaved")) {
    checkRule("vit", images.vit, pack.vitPatch, pack.vitSide, pack.positions);
  }
}

function checkTokenBatches(batch: TokenBatches): void {
  for (const key of ["expectedTokens", "maxTokens", "maxTokensPerSample"] as const) {
    whole(`batch.${key}`, batch[key], 1);
  }
  for (const key of ["preferBufferBefore", "buffer"] as const) whole(`batch.${key}`, batch[key], 0);
  const { expectedTokens, maxTokens, maxTokensPerSample } = batch;
  if (expectedTokens > maxTokens) {
    refuse(
      `batch.expectedTokens ${expectedTokens} is above batch.maxTokens ${maxTokens}`,
      "Give a larger maxTokens",
    );
  }
  if (maxTokensPerSample > maxTokens) {
    refuse(
      `batch.maxTokensPerSample ${maxTokensPerSample} is above batch.maxTokens ${maxTokens}`,
      "Give a larger maxTokens",
    );
  }
  for (const task of batch.mandatory ?? []) {
    if (TASKS.includes(task)) continue;
    refuse(`batch.mandatory has ${JSON.stringify(task)}`, `Tasks are ${TASKS.join(", ")}`);
  }
}

/** Images under the rule must be of whole tokens, and their tokens in the position table. */
function checkRule(
  side: string,
  rule: ResizeRule,
  token: number,
  table: number,
  positions: PackOptions["positions"],
): void {
  const { max, min, stride, maxPixels = 1 } = rule;
  for (const [key, value] of Object.entries({ max, min, stride, maxPixels })) {
    if (Number.isFinite(value) && value > 0) continue;
    refuse(`images.${side}.${key} is ${value}`, "Give a number of pixels above 0");
  }
  if (stride % token !== 0) {
    refuse(
      `images.${side}.stride is ${stride}, a token of the model ${token} pixels wide`,
      `Give a multiple of ${token}`,
    );
  }
  const widest = Math.max(stride, Math.ceil(max / stride) * stride);
  if (positions === "interpolate" || widest <= table * token) return;
  refuse(
    `images.${side}.max is ${max}, the model has positions for ${table * token} pixels`,
    `Give at most ${table * token}`,
  );
}

function whole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  refuse(`${name} is ${value}`, `Give a whole number from ${least} up`);
}

function refuse(what: string, help: string): never {
  throw new UsageError(`Cannot load data: ${what}`, { help });
}
