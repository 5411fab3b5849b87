// The course of a part's training out of its run record, as the figure takes it.

import type { ImageSplit } from "../data/training/image_stream.ts";
import type { PartCourse } from "../show/part_losses.ts";
import type { RunRecord } from "../study/read_run.ts";
import { splitText } from "./part_data.ts";
import { SPLIT } from "./part_training.ts";

const NONE = { steps: [], values: [] };
/** Recall of pairs, by the names that a look gives. */
const RECALLS = ["image-to-text", "text-to-image"];

/** Losses and held-out measures of a run of an autoencoder or an image encoder; without steps they are empty. */
export function partCourse({ header, sessions, metrics, events }: RunRecord): PartCourse {
  const session = sessions.at(-1);
  const split = events.findLast(({ kind }) => kind === SPLIT)?.detail as ImageSplit | undefined;
  const named = (metric: string, name = metric) => {
    const measured = metrics[`held-out/${metric}`];
    return measured ? [{ name, ...measured }] : [];
  };
  const recalls = RECALLS.flatMap((metric) => named(metric));
  const chance = metrics["held-out/chance"]?.values.at(-1);
  const commit = session?.commit ? `, commit ${session.commit.slice(0, 7)}` : "";
  const software = session?.software ? " (software)" : "";
  return {
    title: `${header.study}, ${header.arm}, seed ${header.seed}`,
    loss: { ...metrics.loss ?? NONE, heldOut: metrics["held-out/loss"] ?? NONE },
    ...(recalls.length > 0
      ? {
        measures: recalls,
        measured: { title: "Right partner found", unit: "recall at 1" },
        ...(chance === undefined ? {} : { chance }),
      }
      : {
        measures: named("psnr", "PSNR"),
        measured: { title: "Reconstruction", unit: "PSNR (dB)" },
      }),
    ...(split ? { split: splitText(split) } : {}),
    provenance: `${session?.adapter ?? "unknown adapter"}${software}${commit}.`,
  };
}
