// Phantoms as a source of training records, for runs that need no data set: all four tasks, as many
// records as wanted, splits that share no case.

import { createHash } from "node:crypto";
import { UsageError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import { captionOf, type Factors, questionsOf } from "../phantoms/factors.ts";
import { phantomFactors } from "../phantoms/phantom.ts";
import { pairText, PICTURE_TASKS, type PictureTask } from "../phantoms/pictures.ts";
import { type PhantomPicture, PhantomRenderer, type PhantomView } from "./phantom_picture.ts";
import { type ImageRef, type InspectedRecord, type Part, type Split, TASKS } from "./record.ts";
import type { TrainingRecord } from "./record.ts";
import { checkIndex, type RecordSource } from "./source.ts";

/** What {@link openPhantoms} may be told beside the path. */
export interface PhantomSourceOptions {
  /** Default: "phantoms". */
  name?: string;
  /** Default: "train". */
  split?: Split;
}

/** Questions about one image; a phantom has four to seven. */
const TURNS = 3;

/** What a path may set, with defaults. */
const SETTINGS = { count: 40_000, seed: 0, size: 32 };
const HELP = 'Write "phantoms", or settings behind it: "phantoms?count=400&seed=1&size=32"';

/**
 * Opens phantoms as records. Record i has task `TASKS[i % 4]` and shows case i of its split:
 * - t2i: the caption, then the image to draw
 * - i2t: the image, then up to three of its questions with their answers, in drawn order
 * - interleaved: an image, an instruction and the image to draw; the pairs of `picturePair` in turn
 * - text: the caption alone, to be predicted
 *
 * @param path `phantoms`, or with settings `phantoms?count=400&seed=1&size=32` (count of records, default
 *   40000; seed, default 0; pixels per side, default 32)
 * @throws {UsageError} If the path says something else
 */
export function openPhantoms(path: string, options: PhantomSourceOptions = {}): RecordSource {
  const settings = parsePath(path);
  const split = options.split ?? "train";
  const said = JSON.stringify({ phantoms: 1, ...settings, split, turns: TURNS });
  return new PhantomSource(path, options.name ?? "phantoms", settings, split, said);
}

/** What is known of a record before anything is drawn. */
interface PhantomCase {
  index: number;
  about: Omit<TrainingRecord, "parts">;
  factors: Factors;
  /** The pair that the case shows where it is interleaved, and what that pair asks for. */
  pair: PictureTask;
  instruction: string;
}

class PhantomSource implements RecordSource {
  readonly format = "phantoms";
  readonly count: number;
  readonly tasks: Uint8Array;
  readonly blocks = [0];
  readonly bad = { count: 0, listed: [] };
  readonly fingerprint: string;
  readonly #renderer = new PhantomRenderer();

  constructor(
    readonly path: string,
    readonly name: string,
    private readonly settings: typeof SETTINGS,
    private readonly split: Split,
    said: string,
  ) {
    this.count = settings.count;
    this.tasks = Uint8Array.from({ length: this.count }, (_, i) => i % TASKS.length);
    this.fingerprint = createHash("sha256").update(said).digest("hex");
  }

  // Nothing here waits; the promise is the interface's.
  // deno-lint-ignore require-await
  async read(index: number, draws: Draws): Promise<TrainingRecord> {
    const known = this.#case(index);
    return { ...known.about, parts: this.#parts(known, draws) };
  }

  // deno-lint-ignore require-await
  async inspect(index: number): Promise<InspectedRecord> {
    const { about, factors, instruction, pair } = this.#case(index);
    const image = (role: "input" | "output", view: PhantomView) => {
      const { name, phantom } = this.#ref(index, view);
      return { role, image: { name, pixels: this.#renderer.draw(phantom) } };
    };
    const input = (text: string) => ({ role: "input" as const, text });
    const output = (text: string) => ({ role: "output" as const, text });
    switch (about.task) {
      case "t2i":
        return { ...about, texts: [input(captionOf(factors))], images: [image("output", "image")] };
      case "i2t": {
        const turns = questionsOf(factors).flatMap((q) => [input(q.question), output(q.answer)]);
        return { ...about, texts: turns, images: [image("input", "image")] };
      }
      case "interleaved": {
        const images = [image("input", `${pair} source`), image("output", `${pair} target`)];
        return { ...about, texts: [input(instruction)], images };
      }
      case "text":
        return { ...about, texts: [output(captionOf(factors))], images: [] };
    }
  }

  where(index: number): string {
    checkIndex(index, this);
    return `${this.path} record ${index}`;
  }

  close(): void {}

  #case(index: number): PhantomCase {
    checkIndex(index, this);
    const { seed } = this.settings;
    const { split } = this;
    const factors = phantomFactors(seed, split, index);
    const pair = PICTURE_TASKS[Math.floor(index / TASKS.length) % PICTURE_TASKS.length];
    const about = {
      where: this.where(index),
      task: TASKS[this.tasks[index]],
      modality: factors.modality,
      dataset: "phantoms",
      split,
    };
    const instruction = pairText({ seed, split, index, factors }, pair);
    return { about, index, factors, pair, instruction };
  }

  #ref(index: number, view: PhantomView): ImageRef & { phantom: PhantomPicture } {
    const { seed, size } = this.settings;
    const { split } = this;
    return {
      name: `phantom ${seed} ${split} ${index}: ${view}`,
      phantom: { seed, split, index, size, view },
    };
  }

  #parts(
    { about, index, factors, pair, instruction }: PhantomCase,
    draws: Draws,
  ): Part[] {
    const image = (view: PhantomView, use: "noisy" | "clean" | "vit", dropout: boolean): Part => {
      return { type: "image", image: this.#ref(index, view), use, dropout };
    };
    const text = (text: string, loss: boolean, dropout: boolean): Part => {
      return { type: "text", text, loss, dropout };
    };
    switch (about.task) {
      case "t2i":
        return [text(captionOf(factors), false, true), image("image", "noisy", false)];
      case "i2t": {
        const questions = questionsOf(factors);
        const order = draws.order(questions.length).subarray(0, TURNS);
        return [
          image("image", "vit", false),
          ...[...order].flatMap((i) => [
            text(questions[i].question, false, false),
            text(questions[i].answer, true, false),
          ]),
        ];
      }
      case "interleaved":
        return [
          image(`${pair} source`, "clean", true),
          image(`${pair} source`, "vit", true),
          text(instruction, false, true),
          image(`${pair} target`, "noisy", false),
        ];
      case "text":
        return [text(captionOf(factors), true, false)];
    }
  }
}

function parsePath(path: string): typeof SETTINGS {
  const [kind, query = "", ...more] = path.split("?");
  const refuse = (what: string): never => {
    throw new UsageError(`Cannot open phantoms ${JSON.stringify(path)}: ${what}`, { help: HELP });
  };
  if (kind !== "phantoms" || more.length > 0) refuse('expected "phantoms"');
  const settings = { ...SETTINGS };
  for (const [key, value] of new URLSearchParams(query)) {
    if (!Object.hasOwn(settings, key)) refuse(`there is no setting ${JSON.stringify(key)}`);
    if (!/^\d{1,9}$/.test(value)) refuse(`${key} is ${JSON.stringify(value)}, no whole number`);
    settings[key as keyof typeof SETTINGS] = Number(value);
  }
  if (settings.count < TASKS.length) refuse(`count is ${settings.count}, below ${TASKS.length}`);
  if (settings.size < 16) refuse(`size is ${settings.size}, below 16`);
  return settings;
}
