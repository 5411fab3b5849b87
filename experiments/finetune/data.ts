// A data set too small to train on, beside what its model already knows. VQA-RAD divided by organ: chest and abdomen
// are what the base has seen, besides phantoms; a few images of heads are what it is tuned on, other images of heads
// are held out.

import { Draws, endlessOrder } from "../../lib/data/draws.ts";
import { openDataset } from "../../lib/data/dataset.ts";
import type { PackOptions } from "../../lib/data/pack.ts";
import type { Sample } from "../../lib/data/sample.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { questionSample } from "../../lib/study/vqa.ts";
import { DEFAULTS, type DemoConfig, withVocabulary } from "../demo/config.ts";
import { readPictures } from "../demo/data_images.ts";
import { askData, type DataItem, MAX_VOCABULARY } from "../demo/data_questions.ts";
import type { Pictured } from "../demo/data_samples.ts";
import { type DemoWorld, packFor, phantomTokenizer, phantomWorld } from "../demo/world.ts";

/** Everything that tuning reads. */
export interface FinetuneData {
  tokenizer: WordTokenizer;
  config: UniMedVLConfig;
  pack: PackOptions;
  phantoms: DemoWorld;
  demo: DemoConfig;
  /** Chest and abdomen: train questions, and test questions about the same images and others. */
  general: { train: Pictured[]; test: Pictured[] };
  /** Heads: all questions about an image, and of them those of the train split. */
  heads: { all: Pictured; train: Pictured["questions"] }[];
  /** Words read of an answer, its end included. */
  maxWords: number;
}

/** Heads as one seed divides them; no image is in two parts. */
export interface Split {
  tune: Pictured[];
  /** Looked at while training, to stop. */
  validation: Pictured[];
  /** Looked at afterwards. */
  test: Pictured[];
}

/** Longest answer asked for, in words: the others count as wrong, and almost all are shorter. */
const MOST_WORDS = 3;

/**
 * Opens VQA-RAD. The vocabulary is that of phantoms, then that of the data, as `experiments/tiny` begins with the former.
 *
 * @throws {InputError} From the readers, or if the folder is no VQA-RAD with heads
 */
export async function openFinetuneData(dir: string, tests: number): Promise<FinetuneData> {
  const dataset = await openDataset(dir);
  const asked = askData(dataset);
  const phantomWords = phantomTokenizer().words;
  const words = [...new Set([...phantomWords, ...asked.tokenizer.words])];
  const specials = new WordTokenizer([]).size;
  const tokenizer = new WordTokenizer(words.slice(0, MAX_VOCABULARY - specials));
  const config = withVocabulary(PRESETS.tiny, tokenizer.size);
  const records = dataset.records.map(({ imagePath }) => imagePath);
  const pictures = await readPictures(records, config.vision.imageSize);
  const known = ({ questions }: DataItem) =>
    questions.filter(({ answer }) => !tokenizer.encode(answer).includes(tokenizer.special.unk));
  const pictured = (items: DataItem[]) =>
    items.map((item): Pictured => ({
      ...item,
      questions: known(item),
      image: pictures.get(item.record.imagePath)!,
    })).filter(({ questions }) => questions.length > 0);
  const [train, test] = [pictured(asked.train), pictured(asked.test)];
  const isHead = ({ record }: Pictured) => record.label === "head";
  const heads = [...Map.groupBy([...train, ...test].filter(isHead), (i) => i.record.imagePath)];
  if (heads.length < 8) {
    throw new InputError(`Cannot tune on ${dir}: it has ${heads.length} images of heads`, {
      help: "give the folder of VQA-RAD",
    });
  }
  const demo = { ...DEFAULTS, tests, gate: { ...DEFAULTS.gate, pictures: 16 } };
  return {
    tokenizer,
    config,
    pack: packFor(config, tokenizer),
    phantoms: phantomWorld("natural", demo),
    demo,
    general: {
      train: train.filter((item) => !isHead(item)),
      test: test.filter((item) => !isHead(item)),
    },
    heads: heads.map(([, items]) => ({
      all: { ...items[0], questions: items.flatMap(({ questions }) => questions) },
      train: items.filter(({ record }) => record.split === "train").flatMap((i) => i.questions),
    })),
    maxWords: MOST_WORDS + 1,
  };
}

/**
 * Divides the heads: `images` to tune on, the rest in halves.
 *
 * @throws {UsageError} If fewer than two images were left to each half
 */
export function splitHeads({ heads }: FinetuneData, images: number, seed: number): Split {
  if (!(images >= 1 && heads.length - images >= 4)) {
    throw new UsageError(`Cannot tune on ${images} of ${heads.length} images of heads`, {
      help: `1 to ${heads.length - 4} leave images to validate and test on`,
    });
  }
  const order = [...new Draws("heads", seed).order(heads.length)].map((i) => heads[i]);
  const tune = order.filter(({ train }) => train.length > 0).slice(0, images);
  const rest = order.filter((head) => !tune.includes(head)).map(({ all }) => all);
  const half = rest.length >> 1;
  return {
    tune: tune.map(({ all, train }) => ({ ...all, questions: train })),
    validation: rest.slice(0, half),
    test: rest.slice(half),
  };
}

/** Batches by step: `count` images, each with `most` of its questions drawn anew. */
export function batches(
  items: readonly Pictured[],
  tokenizer: WordTokenizer,
  { count, most, key }: { count: number; most: number; key: (number | string)[] },
): (step: number) => Sample[] {
  const at = endlessOrder(items.length, "finetune", ...key);
  return (step) =>
    Array.from({ length: count }, (_, i) => {
      const item = items[at(step * count + i)];
      const order = new Draws("finetune asked", ...key, step, i).order(item.questions.length);
      return sampleOf(item, tokenizer, [...order.subarray(0, most)]);
    });
}

/** An image with some of its questions; all of them by default. */
export function sampleOf(
  { image, questions }: Pictured,
  tokenizer: WordTokenizer,
  which: readonly number[] = questions.map((_, i) => i),
): Sample {
  return questionSample(
    image,
    which.map((i) => ({
      question: tokenizer.encode(questions[i].question),
      answer: tokenizer.encode(questions[i].answer),
    })),
  );
}
