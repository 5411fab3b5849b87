// The groups of checks a fixture folder is put through, by name.

import type { Gpu } from "../gpu/device.ts";
import type { Fixture, Row } from "./compare.ts";
import { checkInferImage } from "./infer_image.ts";
import { checkInferText } from "./infer_text.ts";
import { checkModules } from "./modules.ts";
import { checkOps } from "./ops.ts";
import { checkOptim } from "./optim.ts";
import { checkPacking } from "./packing.ts";
import { checkSteps, checkTrain } from "./train.ts";
import { checkTransforms } from "./transforms.ts";
import { checkVae } from "./vae.ts";

/** In the order they run: small parts first. */
export const GROUPS = [
  "ops",
  "vae",
  "packing",
  "transforms",
  "optim",
  "train",
  "steps",
  "infer_text",
  "infer_image",
] as const;
/** The name of a group. */
export type Group = typeof GROUPS[number];

/** Runs one group over an open fixture. */
export async function runGroup(group: Group, gpu: Gpu, fixture: Fixture): Promise<Row[]> {
  switch (group) {
    case "ops":
      return [...await checkOps(gpu, fixture.dir), ...await checkModules(gpu, fixture)];
    case "vae":
      return await checkVae(gpu, fixture.dir);
    case "packing":
      return await checkPacking(fixture.dir);
    case "transforms":
      return await checkTransforms(fixture.dir);
    case "optim":
      return await checkOptim(gpu, fixture.dir);
    case "train":
      return await checkTrain(gpu, fixture);
    case "steps":
      return await checkSteps(gpu, fixture);
    case "infer_text":
      return await checkInferText(gpu, fixture);
    case "infer_image":
      return await checkInferImage(gpu, fixture);
  }
}
