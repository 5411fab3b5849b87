// A batch as training takes it: the packed sequence, which samples are in it, and what is needed to weigh their
// losses. Noise is drawn by the samples' slots, so that it is theirs in whatever batch they are.

import { normalNoise } from "../noise.ts";
import { packBatch, type PackedBatch, type PackOptions } from "../pack.ts";
import type { LoaderState } from "./loader_state.ts";
import { dropoutDraws, type PreparedSample, timestepDraws } from "./prepared.ts";
import type { Task } from "./record.ts";

/** Which record a sample of a batch came from. */
export interface LoadedSample {
  source: string;
  /** Of the record in its source. */
  index: number;
  /** Passes over the records of its task and source before this one. */
  epoch: number;
  /** Its place in the sequence of all samples, and the key of everything random about it. */
  slot: number;
  task: Task;
  /** As packed: without what dropout took. */
  tokens: number;
  where: string;
}

/** One batch. */
export interface LoadedBatch {
  packed: PackedBatch;
  /** In packed order. */
  samples: LoadedSample[];
  /** Predicted text tokens, and the sum of their weights 1/√(n+1). */
  textTokens: number;
  textWeight: number;
  /** Predicted latent tokens. */
  flowTokens: number;
  /**
   * Standard normal noise of all VAE tokens, in packed order.
   *
   * @param width numbers per token
   * @returns (N_vae, width)
   */
  noise(width: number): Float32Array;
  /** One key per VAE image, in packed order: what else is drawn for it starts with this. */
  imageKeys: number[][];
  /** The loader's state after this batch: a loader opened with it goes on with the next one. */
  after: LoaderState;
}

/** Packs samples; nothing random depends on which batch they are in. */
export function makeBatch(
  prepared: readonly PreparedSample[],
  options: {
    seed: number;
    pack: Omit<PackOptions, "dropout" | "drawDropout" | "drawTimestep" | "padTo">;
    dropout: { text: number; vit: number; vae: number };
  },
): Omit<LoadedBatch, "after"> {
  const { seed, pack, dropout } = options;
  const slots = prepared.map(({ ref }) => ref.slot);
  const dropouts = slots.map((slot) => dropoutDraws(seed, slot));
  const timesteps = slots.map((slot) => timestepDraws(seed, slot));
  const packed = packBatch(prepared.map(({ sample }) => sample), {
    ...pack,
    dropout,
    drawDropout: (sample) => dropouts[sample].uniform(),
    drawTimestep: (sample) => timesteps[sample].normal(),
  });
  const vaeTokens = slots.map(() => 0);
  for (const token of packed.vaeTokenIndexes) vaeTokens[packed.sample[token]]++;
  return {
    packed,
    samples: prepared.map(({ source, index, epoch, ref, task, where }, i) => ({
      source,
      index,
      epoch,
      slot: ref.slot,
      task,
      tokens: packed.sampleLens[i],
      where,
    })),
    textTokens: packed.ceLossIndexes.length,
    textWeight: packed.ceLossWeights.reduce((a, b) => a + b, 0),
    flowTokens: packed.mseLossIndexes.length,
    noise(width) {
      const out = new Float32Array(packed.vaeTokenIndexes.length * width);
      let at = 0;
      slots.forEach((slot, i) => {
        const noise = normalNoise(vaeTokens[i] * width, "flow", seed, slot);
        out.set(noise, at);
        at += noise.length;
      });
      return out;
    },
    imageKeys: imageKeysOf(packed, seed, slots),
  };
}

/** `[seed, slot, n]` for the n-th VAE image of a sample. */
function imageKeysOf(packed: PackedBatch, seed: number, slots: readonly number[]): number[][] {
  const seen = new Map<number, number>();
  let token = 0;
  return packed.latentShapes.map(([rows, columns]) => {
    const slot = slots[packed.sample[packed.vaeTokenIndexes[token]]];
    const n = seen.get(slot) ?? 0;
    seen.set(slot, n + 1);
    token += rows * columns;
    return [seed, slot, n];
  });
}
