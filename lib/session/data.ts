// The data of a training: open sources, the loader of a stage, and what turns a loaded batch into what the model
// reads.

import {
  type LoadedBatch,
  type Loader,
  type LoaderState,
  openLoader,
} from "../data/training/loader.ts";
import { excludeRecords, readExclusions } from "../data/training/exclusions.ts";
import { openSource } from "../data/training/open_source.ts";
import { type Task, TASKS } from "../data/training/record.ts";
import type { RecordSource } from "../data/training/source.ts";
import { latentSize } from "../model/config.ts";
import { shiftTimesteps } from "../model/batch.ts";
import type { Objective } from "../train/objective.ts";
import type { SourceConfig, StageConfig, TrainConfig } from "../train/config/schema.ts";
import { latentsOf } from "../train/latents.ts";
import { sha256 } from "../study/provenance.ts";
import type { TrainModel } from "./model.ts";

/** Sources with the weights they were given. */
export type OpenSources = { source: RecordSource; weight?: number }[];

/** Opens sources in order; those open so far are closed when one fails. */
export async function openSources(configs: readonly SourceConfig[]): Promise<OpenSources> {
  const sources: OpenSources = [];
  try {
    for (const { name, path, format, split, weight, exclude, images } of configs) {
      const source = await openSource(path, {
        name,
        format,
        ...(split ? { split } : {}),
        ...(images === null ? {} : { images }),
      });
      sources.push({ source, ...(weight === null ? {} : { weight }) });
      if (exclude === null) continue;
      sources.at(-1)!.source = excludeRecords(source, await readExclusions(exclude));
    }
  } catch (cause) {
    closeSources(sources);
    throw cause;
  }
  return sources;
}

/** Closes sources. */
export function closeSources(sources: OpenSources): void {
  for (const { source } of sources) source.close();
}

/** Records of sources together, by task; tasks without any are absent. */
export function recordsOf(sources: OpenSources): Partial<Record<Task, number>> {
  const records: Partial<Record<Task, number>> = {};
  for (const { source } of sources) {
    for (const task of source.tasks) records[TASKS[task]] = (records[TASKS[task]] ?? 0) + 1;
  }
  return records;
}

/** One hash of all data: what a run record says it was trained on. */
export function dataDigest(sources: OpenSources): string {
  return sha256(sources.map(({ source }) => `${source.name} ${source.fingerprint}\n`).join(""));
}

/** Whose share of the data this process loads. */
export interface Share {
  rank: number;
  ranks: number;
}

/** Opens the loader of a stage, where an earlier one stopped if a state is given. */
export function stageLoader(
  config: TrainConfig,
  stage: StageConfig,
  sources: OpenSources,
  { tokenizerSpec, pack }: TrainModel,
  share: Share,
  state: LoaderState | undefined,
  onBad: (message: string) => void,
): Promise<Loader> {
  const { data, batch, seed } = config;
  return openLoader({
    sources,
    mix: stage.mix,
    batch: "samples" in batch
      ? batch
      : { ...batch, maxTokensPerSample: Math.min(stage.maxTokensPerSample, batch.maxTokens) },
    maxTokensPerSample: stage.maxTokensPerSample,
    images: { vae: stage.vae, vit: stage.vit },
    tokenizer: tokenizerSpec,
    pack,
    dropout: stage.dropout,
    seed,
    ...share,
    workers: data.workers,
    prefetch: data.prefetch,
    mostBad: data.mostBad,
    onBad,
  }, state);
}

/** A loader of held-out samples of some tasks: no dropout, the same samples and noise every time. */
export function heldOutLoader(
  config: TrainConfig,
  stage: StageConfig,
  sources: OpenSources,
  { tokenizerSpec, pack }: TrainModel,
  mix: Partial<Record<Task, number>>,
  samples: number,
  onBad?: (message: string) => void,
): Promise<Loader> {
  return openLoader({
    sources,
    mix,
    batch: { samples },
    maxTokensPerSample: stage.maxTokensPerSample,
    images: { vae: stage.vae, vit: stage.vit },
    tokenizer: tokenizerSpec,
    pack,
    dropout: { text: 0, vit: 0, vae: 0 },
    seed: config.seed,
    workers: 0,
    prefetch: 1,
    mostBad: config.data.mostBad,
    ...(onBad ? { onBad } : {}),
  });
}

/** What the model reads of a loaded batch. */
export async function inputsOf(
  { model, autoencoder, latentCache }: TrainModel,
  batch: LoadedBatch,
  timestepShift: number,
): Promise<Objective["inputs"]> {
  const { packed } = batch;
  if (packed.vaeTokenIndexes.length === 0) return { packed };
  const latents = await latentsOf(model, autoencoder, packed, {
    keys: batch.imageKeys,
    ...(latentCache ? { cache: latentCache } : {}),
  });
  return {
    packed,
    latents,
    noise: batch.noise(latentSize(model.config)),
    timesteps: shiftTimesteps(packed.timesteps, timestepShift),
  };
}
