// The two worlds of the demo. In the natural one, generation may or may not help understanding; in the
// planted one the picture to draw is the answer itself, so that help must show if it can flow at all.
// Every sample is a function of (seed, step): an arm sees the same understanding samples in the same
// order whether or not it also draws generation samples.

import { InputError } from "../../errors.ts";
import { answerCode } from "./codes.ts";
import { Draws, endlessOrder } from "../draws.ts";
import { type Answered, MODALITIES } from "./factors.ts";
import { type Phantom, phantom, type PhantomOptions } from "./phantom.ts";
import { picturePair, type PictureTask } from "./pictures.ts";

/** One image with the questions that are labelled on it. */
export interface UnderstandingItem {
  phantom: Phantom;
  /** All questions of the phantom, or those that this world labels. */
  questions: Answered[];
}

/** `text` is drawn from a caption, `code` from an image and a question, the rest are picture pairs. */
export type GenerationTask = "text" | "code" | PictureTask;

/** One sample of the flow branch. */
export interface GenerationItem {
  task: GenerationTask;
  /** The case behind the condition. */
  phantom: Phantom;
  text: string;
  /** (size, size, 3) in [-1, 1], the image in context; null for text to image. */
  source: Float32Array | null;
  /** (size, size, 3) in [-1, 1], what should be drawn. */
  target: Float32Array;
  /** Index of the item that the target was made from; another's when shuffled. */
  targetIndex: number;
}

/** How many images a world holds and what they look like. */
export interface WorldOptions {
  /** Images that carry labels; default 400. */
  labelled?: number;
  /** Images of the generation branch, none of them labelled; default 4000. */
  generated?: number;
  /** Images with the starved question in the planted world, within the labelled; default 12. */
  starved?: number;
  /** Options of every phantom. */
  phantoms?: PhantomOptions;
  /** Keep made phantoms in memory, about 20 kB each at 32 × 32; default true. */
  keep?: boolean;
}

/** What a world gives to training and testing. */
export interface World {
  name: "natural" | "planted";
  /** Tasks that its generation branch knows. */
  tasks: readonly GenerationTask[];
  /** The understanding samples of one step. */
  understanding(step: number, count: number): UnderstandingItem[];
  /**
   * The generation samples of one step. `shuffled` gives each the target of another item, always the
   * same one, so that a target says nothing about its condition; by luck one code in eight still fits.
   */
  generation(
    step: number,
    count: number,
    options: { task: GenerationTask; shuffled?: boolean },
  ): GenerationItem[];
  /** Held-out phantom `index`, asked everything. */
  test(index: number): UnderstandingItem;
  /** Held-out generation sample `index`. */
  testGeneration(index: number, task: GenerationTask): GenerationItem;
}

/**
 * Understanding: all questions on a small labelled pool. Generation: caption to image, or one of the
 * picture pairs, on a larger pool of other images.
 *
 * @param seed of the data and of the order of samples, whole and ≥ 0
 * @throws {InputError} If a pool is empty or a phantom option is out of range
 */
export function naturalWorld(seed: number, options: WorldOptions = {}): World {
  const pools = openPools(seed, options);
  const order = endlessOrder(pools.labelled, seed, "labelled");
  return {
    name: "natural",
    tasks: ["text", "organ", "remove", "denoise", "translate"],
    understanding: (step, count) =>
      slots(step, count).map((slot) => asked(pools.item("labelled", order(slot)))),
    ...generationOf(seed, pools, ["text", "organ", "remove", "denoise", "translate"]),
    test: (index) => asked(pools.item("test", index)),
  };
}

/**
 * Understanding: as in the natural world, but "modality ?" is labelled on few images only, and the first
 * half of each batch is drawn from these. Generation: image and "modality ?" to the answer's code picture.
 * The starved images are chosen so that the modalities are as even among them as can be. As the looks
 * are, the nearest neighbour among 12 such images already names the modality; raise `phantoms.disguise`
 * where few labels must not suffice (0.5 leaves it .87 right in colour and .70 in grey, 1 .55 and .40).
 *
 * @throws {InputError} If there are more starved than labelled images, or as for `naturalWorld`
 */
export function plantedWorld(seed: number, options: WorldOptions = {}): World {
  const pools = openPools(seed, options);
  const { starved = 12 } = options;
  if (!Number.isInteger(starved) || starved < 1 || starved > pools.labelled) {
    throw new InputError(
      `Cannot plant an answer: ${starved} starved images among ${pools.labelled} labelled`,
      { help: "Give a whole number of starved images from 1 to the number of labelled ones" },
    );
  }
  const few = evenly(pools, starved);
  const isStarved = new Set(few);
  const fewOrder = endlessOrder(few.length, seed, "starved");
  const order = endlessOrder(pools.labelled, seed, "labelled");
  const label = (index: number): UnderstandingItem => {
    const item = asked(pools.item("labelled", index));
    if (isStarved.has(index)) return item;
    return { ...item, questions: item.questions.filter(({ name }) => name !== "modality") };
  };
  return {
    name: "planted",
    tasks: ["code"],
    understanding: (step, count) => {
      const half = Math.floor(count / 2);
      return [
        ...slots(step, half).map((slot) => label(few[fewOrder(slot)])),
        ...slots(step, count - half).map((slot) => label(order(slot))),
      ];
    },
    ...generationOf(seed, pools, ["code"]),
    test: (index) => asked(pools.item("test", index)),
  };
}

function asked(p: Phantom): UnderstandingItem {
  return { phantom: p, questions: p.questions };
}

/** Positions in the endless sequence of samples that a step covers. */
function slots(step: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => step * count + i);
}

interface Pools {
  labelled: number;
  generated: number;
  item(split: "labelled" | "generated" | "test", index: number): Phantom;
}

function openPools(seed: number, options: WorldOptions): Pools {
  const { labelled = 400, generated = 4000, phantoms = {}, keep = true } = options;
  for (const [name, n] of Object.entries({ labelled, generated })) {
    if (!Number.isInteger(n) || n < 2) {
      throw new InputError(`Cannot open a world with ${name}: ${n}`, {
        help: "Give a whole number of images from 2 up",
      });
    }
  }
  const kept = new Map<string, Phantom>();
  return {
    labelled,
    generated,
    item(split, index) {
      const key = `${split} ${index}`;
      const known = kept.get(key);
      if (known !== undefined) return known;
      const made = phantom(seed, split, index, phantoms);
      if (keep && split !== "test") kept.set(key, made);
      return made;
    },
  };
}

/** `count` labelled images, in turn the next one of each modality while there are any. */
function evenly(pools: Pools, count: number): number[] {
  const queues = MODALITIES.map((): number[] => []);
  for (let i = 0; i < pools.labelled; i++) {
    queues[MODALITIES.indexOf(pools.item("labelled", i).factors.modality)].push(i);
  }
  const chosen: number[] = [];
  for (let turn = 0; chosen.length < count; turn++) {
    const next = queues[turn % queues.length].shift();
    if (next !== undefined) chosen.push(next);
  }
  return chosen;
}

function generationOf(
  seed: number,
  pools: Pools,
  tasks: readonly GenerationTask[],
): Pick<World, "generation" | "testGeneration"> {
  const check = (task: GenerationTask) => {
    if (!tasks.includes(task)) {
      throw new InputError(`Cannot draw task "${task}" in this world: it has ${tasks.join(", ")}`);
    }
  };
  const order = endlessOrder(pools.generated, seed, "generated");
  const partners = new Draws("partners", seed).derangement(pools.generated);
  return {
    generation(step, count, { task, shuffled = false }) {
      check(task);
      return slots(step, count).map((slot) => {
        const index = order(slot);
        const item = generationItem(pools.item("generated", index), task);
        if (!shuffled) return item;
        const other = generationItem(pools.item("generated", partners[index]), task);
        return { ...item, target: other.target, targetIndex: other.targetIndex };
      });
    },
    testGeneration(index, task) {
      check(task);
      return generationItem(pools.item("test", index), task);
    },
  };
}

function generationItem(p: Phantom, task: GenerationTask): GenerationItem {
  const item = { task, phantom: p, targetIndex: p.index };
  if (task === "text") return { ...item, text: p.caption, source: null, target: p.image };
  if (task === "code") {
    const target = answerCode(p.factors.modality, p.size);
    return { ...item, text: "modality ?", source: p.image, target };
  }
  const { text, source, target } = picturePair(p, task);
  return { ...item, text, source, target };
}
