// Records made on the spot, for tests of the loader: texts and images of many lengths, some unusable on purpose.

import { createHash } from "node:crypto";
import { InputError } from "../../../lib/errors.ts";
import { Draws } from "../../../lib/data/draws.ts";
import { PHANTOM_WORDS } from "../../../lib/data/phantoms/factors.ts";
import { inspectParts, type Part, type Task, TASKS } from "../../../lib/data/training/record.ts";
import type { TrainingRecord } from "../../../lib/data/training/record.ts";
import type { LoadedBatch, LoaderOptions } from "../../../lib/data/training/loader.ts";
import type { RecordSource } from "../../../lib/data/training/source.ts";
import { WORD_IDS } from "../../../lib/data/words.ts";

export interface MemoryOptions {
  tasks?: (index: number) => Task;
  /** Records that cannot be read. */
  bad?: (index: number) => boolean;
  /** Words of the first text. Default: 1 to 7. */
  words?: (index: number) => number;
  blocks?: number[];
  /** Called with every record that is read. */
  onRead?: (index: number) => void;
}

export function memorySource(
  name: string,
  count: number,
  options: MemoryOptions = {},
): RecordSource {
  const { tasks = (i) => TASKS[i % 4], bad = () => false, words = (i) => 1 + i % 7 } = options;
  const read = (index: number, draws: Draws): TrainingRecord => {
    options.onRead?.(index);
    const where = `${name}.jsonl line ${index + 1}`;
    if (bad(index)) throw new InputError(`Cannot read ${where}: "text" is missing`);
    const task = tasks(index);
    const said = Array.from({ length: words(index) }, () => draws.pick(PHANTOM_WORDS)).join(" ");
    const text = (loss: boolean): Part => {
      return { type: "text", text: said, loss, dropout: !loss };
    };
    const image = {
      name: `${name} ${index}`,
      pixels: pixels(8 + 8 * (index % 3), 8 + 8 * (index % 2), index),
    };
    const show = (use: "noisy" | "clean" | "vit", dropout = use !== "noisy"): Part => {
      return { type: "image", image, use, dropout };
    };
    const parts: Record<Task, Part[]> = {
      t2i: [text(false), show("noisy")],
      i2t: [show("vit", false), text(true)],
      interleaved: [show("clean"), show("vit"), text(false), show("noisy")],
      text: [text(true)],
    };
    return { where, task, parts: parts[task] };
  };
  return {
    name,
    format: "memory",
    path: name,
    count,
    tasks: Uint8Array.from({ length: count }, (_, i) => TASKS.indexOf(tasks(i))),
    blocks: options.blocks ?? [0],
    fingerprint: name,
    bad: { count: 0, listed: [] },
    where: (index) => `${name}.jsonl line ${index + 1}`,
    read: async (index, draws) => await Promise.resolve(read(index, draws)),
    inspect: async (index) => await Promise.resolve(inspectParts(read(index, new Draws("x")))),
    close: () => {},
  };
}

function pixels(width: number, height: number, key: number) {
  const draws = new Draws("pixels", key);
  const data = Float32Array.from({ length: 3 * width * height }, () => draws.uniform(-1, 1));
  return { width, height, data };
}

/** Options that the tests share: the small models' sizes, four tasks, dropout. */
export function loaderOptions(
  sources: readonly RecordSource[],
  more: Partial<LoaderOptions> = {},
): LoaderOptions {
  return {
    sources: sources.map((source) => ({ source })),
    mix: { t2i: 2, i2t: 3, interleaved: 1, text: 1 },
    batch: { samples: 4 },
    images: { vae: { max: 32, min: 8, stride: 8 }, vit: { max: 16, min: 8, stride: 8 } },
    tokenizer: { kind: "words" },
    pack: { special: WORD_IDS, vitPatch: 8, latentPixels: 8, vitSide: 4, latentSide: 4 },
    dropout: { text: 0.3, vit: 0.4, vae: 0.5 },
    seed: 3,
    workers: 0,
    ...more,
  };
}

/** Everything in a batch but the state after it, in few letters. */
export function digestOf(batch: LoadedBatch): string {
  const { packed, after: _, noise: __, ...rest } = batch;
  const hash = createHash("sha256").update(JSON.stringify(rest));
  for (const [name, list] of Object.entries(packed)) {
    hash.update(name);
    if (ArrayBuffer.isView(list)) hash.update(new Uint8Array(list.buffer));
    else if (name !== "vaeImages") hash.update(JSON.stringify(list));
  }
  for (const { data } of packed.vaeImages) hash.update(new Uint8Array(data.slice().buffer));
  hash.update(new Uint8Array(batch.noise(3).buffer));
  return hash.digest("hex").slice(0, 16);
}
