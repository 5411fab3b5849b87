// Recipes for phantom pictures: a record names the picture, and whoever needs its pixels draws them. So the
// drawing is done in the loader's workers, beside decoding.

import { type Phantom, phantom, planesOf } from "../phantoms/phantom.ts";
import { type PicturePair, picturePair, type PictureTask } from "../phantoms/pictures.ts";
import type { Pixels } from "../transforms.ts";

/** What a picture shows: the phantom itself, or one side of an image-to-image pair. */
export type PhantomView = "image" | `${PictureTask} ${"source" | "target"}`;

/** Everything a phantom picture follows from. */
export interface PhantomPicture {
  seed: number;
  split: string;
  index: number;
  /** Rows and columns. */
  size: number;
  view: PhantomView;
}

/** Draws phantom pictures; what the last one was made from is kept, as a record shows both sides of a pair. */
export class PhantomRenderer {
  #phantom: { key: string; made: Phantom } | undefined;
  #pair: { key: string; made: PicturePair } | undefined;

  /** (3, size, size) in [-1, 1]. */
  draw({ view, ...from }: PhantomPicture): Pixels {
    const image = view === "image" ? this.phantom(from).image : this.#side(view, from);
    return { height: from.size, width: from.size, data: planesOf(image) };
  }

  /** The phantom behind a picture. */
  phantom({ seed, split, index, size }: Omit<PhantomPicture, "view">): Phantom {
    const key = `${seed} ${index} ${size} ${split}`;
    if (this.#phantom?.key !== key) {
      this.#phantom = { key, made: phantom(seed, split, index, { size }) };
    }
    return this.#phantom.made;
  }

  #side(view: Exclude<PhantomView, "image">, from: Omit<PhantomPicture, "view">): Float32Array {
    const [task, side] = view.split(" ") as [PictureTask, "source" | "target"];
    const key = `${task} ${from.seed} ${from.index} ${from.size} ${from.split}`;
    if (this.#pair?.key !== key) {
      this.#pair = { key, made: picturePair(this.phantom(from), task) };
    }
    return this.#pair.made[side];
  }
}
