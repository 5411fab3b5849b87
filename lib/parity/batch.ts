// The training batch of a fixture as our packed record: fixtures store the reference's index lists, so
// nothing is packed anew here (lib/parity/packing.ts checks packing itself).

import type { Mode, PackedBatch } from "../data/pack.ts";
import { MODE_CODE } from "../data/pack.ts";
import type { Fixture } from "./compare.ts";

const FILE = "train_batch.safetensors";

/** Reads `train.json` and the input tensors of `train_batch.safetensors`. */
export async function readTrainBatch(fixture: Fixture): Promise<PackedBatch> {
  const { split_lens, attn_modes, sample_lens, sequence_length, patchified_vae_latent_shapes } =
    await fixture.json("train.json");
  const int = (name: string) => fixture.int(FILE, name);
  const tokens = tokenInfo(sample_lens, split_lens, attn_modes);
  const vaeTokenIndexes = await int("packed_vae_token_indexes");
  const mseLossIndexes = await int("mse_loss_indexes");
  const row = new Map([...vaeTokenIndexes].map((position, i) => [position, i]));
  return {
    sequenceLength: sequence_length,
    sampleLens: sample_lens,
    splitLens: split_lens,
    splitModes: attn_modes,
    positionIds: await int("packed_position_ids"),
    ...tokens,
    branch: new Int32Array(sequence_length),
    hidden: new Int32Array(sequence_length),
    textIds: await int("packed_text_ids"),
    textIndexes: await int("packed_text_indexes"),
    ceLossIndexes: await int("ce_loss_indexes"),
    labelIds: await int("packed_label_ids"),
    ceLossWeights: await fixture.float(FILE, "ce_loss_weights"),
    vitTokens: await fixture.float(FILE, "packed_vit_tokens"),
    vitPositionIds: await int("packed_vit_position_ids"),
    vitTokenIndexes: await int("packed_vit_token_indexes"),
    vitSeqlens: await int("vit_token_seqlens"),
    vaeImages: [],
    latentShapes: patchified_vae_latent_shapes,
    latentPositionIds: await int("packed_latent_position_ids"),
    vaeTokenIndexes,
    timesteps: await fixture.float(FILE, "packed_timesteps"),
    mseLossIndexes,
    mseRows: mseLossIndexes.map((position) => row.get(position)!),
  };
}

/** Sample, split and mode of every token, from the lengths of samples and splits. */
export function tokenInfo(
  sampleLens: number[],
  splitLens: number[],
  modes: Mode[],
): Pick<PackedBatch, "sample" | "split" | "mode"> {
  const spread = (lengths: number[], value: (i: number) => number) =>
    Int32Array.from(lengths.flatMap((n, i) => Array<number>(n).fill(value(i))));
  return {
    sample: spread(sampleLens, (i) => i),
    split: spread(splitLens, (i) => i),
    mode: spread(splitLens, (i) => MODE_CODE[modes[i]]),
  };
}
