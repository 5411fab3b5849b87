// The demo's world of real images: a medpack or VQA-RAD folder as matched samples for both objectives,
// held-out questions, and drawings that somebody can judge. The classes that drawings are judged and
// features are probed for are the modality (medpack) or the organ (VQA-RAD).

import { createHash } from "node:crypto";
import { type Dataset, openDataset } from "../../lib/data/dataset.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { InputError } from "../../lib/errors.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { type DemoConfig, withVocabulary } from "./config.ts";
import { type ReadPictures, readPictures } from "./data_images.ts";
import { fitDataJudge, judgeAccuracy } from "./data_judge.ts";
import { evenly, groupOf, lookOf } from "./data_look.ts";
import { askData, chances } from "./data_questions.ts";
import {
  captionSample,
  denoiseSample,
  generationOf,
  type Pictured,
  understandingOf,
} from "./data_samples.ts";
import { type DemoWorld, type DrawingTest, packFor } from "./world.ts";

/** Below this share of right verdicts on real held-out images, the gate says so. */
const TRUSTED_JUDGE = 0.8;

/**
 * Opens a folder of real images. The training split trains both objectives; all other splits test.
 *
 * @throws {InputError} From the readers, naming file, line or image; or if the folder has too little to
 * train or test on
 * @throws The signal's reason, when it is aborted
 */
export async function dataWorld(
  dir: string,
  config: DemoConfig,
  options: ReadPictures = {},
): Promise<DemoWorld> {
  const dataset = await openDataset(dir);
  const { tokenizer, longest, notes, ...asked } = askData(dataset);
  const model = withVocabulary(PRESETS.tiny, tokenizer.size);
  checkSplits(dir, asked);
  const paths = dataset.records.map(({ imagePath }) => imagePath);
  const pictures = await readPictures(paths, model.vision.imageSize, options);
  const pictured = (items: typeof asked.train) =>
    items.map((item): Pictured => ({ ...item, image: pictures.get(item.record.imagePath)! }));
  const train = pictured(asked.train), test = pictured(asked.test);
  const tests = test.filter(({ questions }) => questions.length > 0);
  const look = lookOf(dir, dataset, train, test);
  const judge = fitDataJudge(look.unshared, look.classes.length, config.seed);
  const skill = judgeAccuracy(judge, look.held);
  const probed = look.held.slice(0, config.probes);
  const groups = new Set(probed.map(({ record }) => groupOf(record))).size;
  const [first] = train;
  return {
    digest: digestOf([...train, ...test]),
    key: "data",
    title: TITLES[dataset.kind],
    model,
    tokenizer,
    pack: packFor(model, tokenizer),
    shift: config.shift.data,
    questions: chances(
      train.flatMap(({ questions }) => questions),
      tests.flatMap(({ questions }) => questions),
    ),
    understanding: understandingOf(train, tokenizer, config),
    generation: generationOf(train, tokenizer, config),
    routes: [
      { name: "text → image", sample: captionSample(first.image, first.captions[0], tokenizer) },
      { name: "image → image", sample: denoiseSample(first.image, tokenizer, [config.seed]) },
    ],
    tests: tests.map(({ image, questions }) => ({ image, questions })),
    drawing: evenly(look, config.gate.pictures).map((item): DrawingTest => ({
      sample: captionSample(item.image, item.captions[0], tokenizer),
      prompt: look.classes[item.label],
      real: item.image,
      wanted: item.label,
      judge,
    })),
    gateMeasure: `drawn ${look.name} matches the caption` +
      (skill < TRUSTED_JUDGE
        ? ` (weak judge: right on ${percent(skill)} of real test images)`
        : ""),
    probeImages: probed.map(({ image }) => image),
    probeTargets: {
      global: {
        name: look.name,
        classes: look.classes.length,
        labels: Int32Array.from(probed, ({ label }) => label),
        groups: numbered(probed.map(({ record }) => groupOf(record))),
      },
    },
    maxWords: longest + 1,
    notes: [
      `${train.length} training and ${test.length} test images, whole, fitted into ` +
      `${model.vision.imageSize} x ${model.vision.imageSize} pixels with black borders`,
      ...notes,
      ...sharedNotes(train, test),
      ...(look.held.length < test.length
        ? [`${test.length - look.held.length} test images have no ${look.name} to judge or probe`]
        : []),
      ...(groups < probed.length
        ? [
          `probes: ${probed.length} test images of ${groups} groups; no fold divides a group`,
        ]
        : []),
      `the judge of drawings was fitted on ${look.unshared.length} training images and names the ` +
      `${look.name} of ${percent(skill)} of ${look.held.length} real test images`,
    ],
  };
}

const TITLES: Record<Dataset["kind"], string> = { "medpack": "medpack", "vqa-rad": "VQA-RAD" };

function checkSplits(
  dir: string,
  { train, test }: Record<"train" | "test", { questions: unknown[] }[]>,
) {
  for (const [name, items] of Object.entries({ train, test })) {
    if (items.some(({ questions }) => questions.length > 0)) continue;
    throw new InputError(
      `Cannot use data folder ${dir}: no ${name === "train" ? "training" : "test"} image has a ` +
        `question that can be asked`,
      { help: `Give images of split "${name}" with answers of a few words` },
    );
  }
}

/** What the two splits share, which a fair test would not. */
function sharedNotes(train: readonly Pictured[], test: readonly Pictured[]): string[] {
  const trained = new Set<Pixels>(train.map(({ image }) => image));
  const groups = new Set(train.map(({ record }) => groupOf(record)));
  const images = test.filter(({ image }) => trained.has(image)).length;
  const related = test.filter(({ record }) => groups.has(groupOf(record))).length;
  const notes: string[] = [];
  if (images > 0) {
    notes.push(
      `${images} of ${test.length} test images are training images too, with other questions: ` +
        `accuracy, probes and drawings are not on unseen images`,
    );
  }
  if (related > images) {
    notes.push(`${related} of ${test.length} test images are of groups that are trained on`);
  }
  return notes;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

/** SHA-256 over pixels, questions and answers, so that a folder whose contents changed is told apart. */
function digestOf(items: Pictured[]): string {
  const hash = createHash("sha256");
  for (const { record, questions, image } of items) {
    hash.update(JSON.stringify([record.id, record.split, questions]));
    hash.update(new Uint8Array(image.data.buffer, image.data.byteOffset, image.data.byteLength));
  }
  return hash.digest("hex");
}

/** Equal keys get equal numbers. */
function numbered(keys: string[]): Int32Array {
  const numbers = new Map<string, number>();
  return Int32Array.from(keys, (key) => {
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    return numbers.get(key)!;
  });
}
