// Classes that pictures are told apart by, for the judge of drawings and for probes, and which images may
// teach the judge.

import type { Dataset, DatasetRecord } from "../../lib/data/dataset.ts";
import { InputError } from "../../lib/errors.ts";
import type { Labelled } from "./data_judge.ts";
import type { Pictured } from "./data_samples.ts";

/** The folds of a probe. */
const LEAST_PROBES = 5;

/** What pictures are told apart by, and the pictures of known class. */
export interface Look {
  name: string;
  classes: string[];
  /** Test images, mixed by class: one of each in turn. */
  held: (Pictured & Labelled)[];
  /** Training images of no group (case, patient, image) that the test split has too. */
  unshared: (Pictured & Labelled)[];
}

/**
 * Classes are those that unshared training images and test images both have: modalities, or labels where
 * the modality is one or unknown (VQA-RAD, whose label is the organ).
 */
export function lookOf(
  dir: string,
  { kind }: Dataset,
  train: readonly Pictured[],
  test: readonly Pictured[],
): Look {
  const groups = new Set(test.map(({ record }) => groupOf(record)));
  const own = train.filter(({ record }) => !groups.has(groupOf(record)));
  for (const field of ["modality", "label"] as const) {
    const values = (items: readonly Pictured[]) =>
      new Set(items.map(({ record }) => record[field]));
    const inTest = values(test);
    const classes = [...values(own)].filter((v) => v !== undefined && inTest.has(v))
      .sort() as string[];
    const labelled = (items: readonly Pictured[]) =>
      items.map((item) => ({ ...item, label: classes.indexOf(item.record[field] ?? "") }))
        .filter(({ label }) => label >= 0);
    const held = mixed(labelled(test), classes.length);
    if (classes.length < 2 || held.length < LEAST_PROBES) continue;
    const name = field === "modality" ? field : kind === "vqa-rad" ? "organ" : "label";
    return { name, classes, held, unshared: labelled(own) };
  }
  throw new InputError(
    `Cannot use data folder ${dir}: fewer than 2 modalities or labels have both training images and ` +
      `test images, or fewer than ${LEAST_PROBES} test images are of them`,
    { help: "Give at least two kinds of images in both splits" },
  );
}

/** What a record's relatives share; alone, its id. */
export function groupOf({ group, id }: DatasetRecord): string {
  return group === undefined ? `id ${id}` : `group ${group}`;
}

/** One of each class in turn, in order, while there are any. */
function mixed<T extends Labelled>(items: readonly T[], classes: number): T[] {
  const queues = Array.from(
    { length: classes },
    (_, k) => items.filter(({ label }) => label === k),
  );
  const longest = Math.max(0, ...queues.map(({ length }) => length));
  return Array.from({ length: longest }, (_, i) => queues.flatMap((queue) => queue.slice(i, i + 1)))
    .flat();
}

/** As many held-out images of each class, the same ones again where a class has too few. */
export function evenly({ held, classes }: Look, count: number): (Pictured & Labelled)[] {
  const queues = classes.map((_, k) => held.filter(({ label }) => label === k));
  return Array.from({ length: count }, (_, i) => {
    const queue = queues[i % queues.length];
    return queue[Math.floor(i / queues.length) % queue.length];
  });
}
