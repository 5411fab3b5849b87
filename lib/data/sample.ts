// A training sample as a plan: the texts and images it consists of, in order, and what each is for.
// Packing (pack.ts) turns plans into one token sequence.

import type { Pixels } from "./transforms.ts";

/** What every item of a plan has. */
interface ItemBase {
  /** Whether the item is predicted: text by cross-entropy, VAE images by flow matching. */
  loss: boolean;
  /** Whether the item is a condition that dropout may remove. Default false. */
  dropout?: boolean;
  /** Label of the item's last token (EOS or EOI), with weight 1; without it the token has none. */
  lastTokenLabel?: number;
  /**
   * 0 (default) is the trunk. A split of branch b > 0 sees the trunk and its own branch, is seen by
   * its own branch only, and its positions go on from the trunk's end. So many questions can share
   * one image's tokens. All of the trunk comes before the first branch.
   */
  branch?: number;
  /**
   * Whether noise splits cannot see this split (default false); so generated tokens can be made to
   * read text only.
   */
  hidden?: boolean;
}

/** Text: packed as BOS, ids, EOS. */
export interface TextItem extends ItemBase {
  type: "text";
  ids: ArrayLike<number>;
}

/** An image for the ViT: packed as SOI, patches, EOI; it has no loss. */
export interface VitItem extends ItemBase {
  type: "vit_image";
  loss: false;
  image: Pixels;
}

/** An image for the VAE: packed as SOI, latent patches, EOI; with loss it is noised. */
export interface VaeItem extends ItemBase {
  type: "vae_image";
  image: Pixels;
  /**
   * Frames of a video share one split and one timestep: the first has `splitStart` true, the last
   * `splitEnd` true; both default to true, as one image is a whole split.
   */
  splitStart?: boolean;
  splitEnd?: boolean;
  /** Positions to the next frame. An item that has it opens a "full" split, with loss or not. */
  frameDelta?: number;
}

/** One step of a sample. */
export type PlanItem = TextItem | VitItem | VaeItem;

/** One training sample. */
export interface Sample {
  plan: readonly PlanItem[];
}

/** Sizes that turn images into tokens, from the model's config. */
export interface TokenGrid {
  /** Pixels per side of a ViT patch. */
  vitPatch: number;
  /** Pixels per side of a latent token: VAE downsampling times latent patch size. */
  latentPixels: number;
}

/** Rows and columns of tokens of an image item. */
export function gridOf(item: VitItem | VaeItem, grid: TokenGrid): { rows: number; cols: number } {
  const side = item.type === "vit_image" ? grid.vitPatch : grid.latentPixels;
  const { height, width, data } = item.image;
  if (data.length !== 3 * height * width) {
    throw new TypeError(
      `Cannot pack a ${item.type} of ${height}x${width}: it has ${data.length} values, not 3 planes`,
    );
  }
  const [rows, cols] = [Math.floor(height / side), Math.floor(width / side)];
  if (rows < 1 || cols < 1) {
    throw new RangeError(
      `Cannot pack a ${item.type} of ${height}x${width}: one token covers ${side}x${side} pixels`,
    );
  }
  return { rows, cols };
}

/** Tokens a sample takes if nothing is dropped: contents and two special tokens per item. */
export function tokenCount(sample: Sample, grid: TokenGrid): number {
  return sample.plan.reduce((sum, item) => {
    if (item.type === "text") return sum + item.ids.length + 2;
    const { rows, cols } = gridOf(item, grid);
    return sum + rows * cols + 2;
  }, 0);
}

/** Limits of {@link groupSamples}, in tokens. */
export interface TokenBudget {
  /** A group is given out once it has this many. */
  expected: number;
  /** No group has more. */
  max: number;
  /** Larger samples are left out. Default: `max`. */
  maxPerSample?: number;
}

/**
 * Puts samples into groups for packing, in order, each within the budget. A sample that does not fit
 * starts the next group; the last group may be small. (The reference drops the sample in hand.)
 *
 * @param onSkip called with every sample larger than `maxPerSample`
 */
export function* groupSamples<S extends Sample>(
  samples: Iterable<S>,
  grid: TokenGrid,
  budget: TokenBudget,
  onSkip: (sample: S, tokens: number) => void,
): Generator<S[]> {
  const maxPerSample = Math.min(budget.maxPerSample ?? budget.max, budget.max);
  let group: S[] = [];
  let used = 0;
  for (const sample of samples) {
    const tokens = tokenCount(sample, grid);
    if (tokens > maxPerSample) {
      onSkip(sample, tokens);
      continue;
    }
    if (used + tokens > budget.max) {
      yield group;
      [group, used] = [[], 0];
    }
    group.push(sample);
    used += tokens;
    if (used >= budget.expected) {
      yield group;
      [group, used] = [[], 0];
    }
  }
  if (group.length > 0) yield group;
}
