// What packing makes: one token sequence as index lists, and the attention rule over it. The rule
// is the oracle of the attention kernels, which apply it without building the T × T matrix.

import type { Pixels } from "./transforms.ts";

/** How the tokens of a split attend to each other. */
export type Mode = "causal" | "full" | "noise";

/** Codes of {@link PackedBatch.mode}. */
export const MODE_CODE = { causal: 0, full: 1, noise: 2 } as const;

/** A packed sequence of T tokens. All indexes are positions in it. */
export interface PackedBatch {
  /** T */
  sequenceLength: number;
  sampleLens: number[];
  splitLens: number[];
  splitModes: Mode[];

  /** (T) RoPE positions. */
  positionIds: Int32Array<ArrayBuffer>;
  /** (T) Which sample, counted from 0. */
  sample: Int32Array<ArrayBuffer>;
  /** (T) Which split, counted from 0 over the whole batch. */
  split: Int32Array<ArrayBuffer>;
  /** (T) 0 causal, 1 full, 2 noise. */
  mode: Int32Array<ArrayBuffer>;
  /** (T) 0 trunk, else the branch within the sample. */
  branch: Int32Array<ArrayBuffer>;
  /** (T) 1 where noise splits may not look. */
  hidden: Int32Array<ArrayBuffer>;

  /** Text and special tokens, with their places. */
  textIds: Int32Array<ArrayBuffer>;
  textIndexes: Int32Array<ArrayBuffer>;
  /** Places with a cross-entropy loss, their labels and weights (1/√(n+1) over a text of n ids). */
  ceLossIndexes: Int32Array<ArrayBuffer>;
  labelIds: Int32Array<ArrayBuffer>;
  ceLossWeights: Float32Array<ArrayBuffer>;

  /** (patches, p·p·3) of all ViT images. */
  vitTokens: Float32Array<ArrayBuffer>;
  vitPositionIds: Int32Array<ArrayBuffer>;
  vitTokenIndexes: Int32Array<ArrayBuffer>;
  /** Patches per ViT image. */
  vitSeqlens: Int32Array<ArrayBuffer>;

  /** The VAE images, and the rows and columns of latent tokens of each. */
  vaeImages: Pixels[];
  latentShapes: [number, number][];
  latentPositionIds: Int32Array<ArrayBuffer>;
  vaeTokenIndexes: Int32Array<ArrayBuffer>;
  /** Per latent token, before sigmoid and shift; -∞ = clean. */
  timesteps: Float32Array<ArrayBuffer>;
  /** Places with a flow loss. */
  mseLossIndexes: Int32Array<ArrayBuffer>;
  /** The same tokens as rows of the latent tokens. */
  mseRows: Int32Array<ArrayBuffer>;
}

/** The per-token lists that decide who sees whom. */
export type TokenInfo = {
  [list in "sample" | "split" | "mode" | "branch" | "hidden"]: ArrayLike<number>;
};

/**
 * Whether query token q may attend to key token k: same sample, and k is not later than q or lies
 * in q's full or noise split, and outside its own split k is none of: in a noise split; in another
 * branch than the trunk or q's; hidden while q is in a noise split.
 */
export function allowed(batch: TokenInfo, q: number, k: number): boolean {
  const { sample, split, mode, branch, hidden } = batch;
  if (sample[q] !== sample[k]) return false;
  const sameSplit = split[q] === split[k];
  if (k > q && !(sameSplit && mode[k] !== MODE_CODE.causal)) return false;
  if (sameSplit) return true;
  if (mode[k] === MODE_CODE.noise) return false;
  if (branch[k] !== 0 && branch[k] !== branch[q]) return false;
  return !(hidden[k] && mode[q] === MODE_CODE.noise);
}

/**
 * The per-token lists of plain splits (no branch, nothing hidden), given per sample.
 *
 * @param splitLens tokens per split of each sample
 * @param modes one mode per split
 */
export function tokensOfSplits(splitLens: number[][], modes: Mode[][]): TokenInfo {
  const lists = { sample: [], split: [], mode: [], branch: [], hidden: [] } as {
    [list in keyof TokenInfo]: number[];
  };
  let split = 0;
  splitLens.forEach((lens, sample) => {
    lens.forEach((length, s) => {
      for (let i = 0; i < length; i++) {
        lists.sample.push(sample);
        lists.split.push(split);
        lists.mode.push(MODE_CODE[modes[sample][s]]);
        lists.branch.push(0);
        lists.hidden.push(0);
      }
      split++;
    });
  });
  return lists;
}
