// Looks at a batch that stopped a run: with the weights it met, where does the first number stop being finite?

import { backward } from "../autograd.ts";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Site } from "../nn/site.ts";
import { sumSquares } from "../ops/global_norm.ts";
import { readHeader } from "../study/run_folder.ts";
import { readAll, type Tensor, tidy } from "../tensor.ts";
import { openSnapshot } from "../train/checkpoint/open.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { objectiveLoss } from "../train/objective.ts";
import { readReplay, type Replay } from "../train/replay.ts";
import { openTrainModel } from "./model.ts";
import { restoreWeights } from "./snapshot.ts";

/** A value with its L2 norm. */
export interface Measured {
  name: string;
  norm: number;
}

/** What a second look at a batch found. */
export interface Examination {
  replay: Replay;
  text?: number;
  flow?: number;
  /** Named values of the forward pass in the order they were made. */
  sites: Measured[];
  /** Gradients by parameter. */
  gradients: Measured[];
  /** Weights that are not finite already. */
  weights: Measured[];
}

/**
 * Runs a saved batch again, forward and backward, on the weights of the checkpoint it names. Nothing is updated.
 *
 * @param path a file below a run's folder `replay/`
 * @throws {InputError} If the file, its run or its checkpoint cannot be read
 */
export async function examine(gpu: Gpu, path: string): Promise<Examination> {
  const replay = await readReplay(path);
  const { run, checkpoint } = replay.facts;
  const header = readHeader(run);
  if (header === null) {
    throw new InputError(`Cannot replay ${path}: its run ${run} is not there`, {
      help: "Start from the folder that the run was started in",
    });
  }
  const config = header.config as unknown as TrainConfig;
  const opened = await openTrainModel(gpu, config);
  const { model } = opened;
  const snapshot = await openSnapshot(`${run}/${checkpoint}`);
  try {
    await restoreWeights(snapshot, model, opened.adaptersOnly);
    const seen: [string, Tensor][] = [];
    const site: Site = (name, x) => {
      seen.push([name, tidy(() => sumSquares([x])).keep()]);
      return x;
    };
    const { losses, gradients } = tidy(() => {
      const { text, flow, total } = objectiveLoss(model, replay.objective, site);
      const found = backward(total);
      const names = new Map([...model.parameters.entries()].map(([name, t]) => [t, name]));
      const gradients = [...found].map(([tensor, gradient]): [string, Tensor] => [
        names.get(tensor)!,
        sumSquares([gradient]),
      ]);
      const losses = { ...(text ? { text } : {}), ...(flow ? { flow } : {}) };
      for (const gradient of found.values()) gradient.dispose();
      return { losses, gradients };
    });
    const held = [...model.parameters.entries()].map(([name, tensor]): [string, Tensor] => [
      name,
      tidy(() => sumSquares([tensor])).keep(),
    ]);
    const named = Object.entries(losses) as ["text" | "flow", Tensor][];
    const values = await readAll(named.map(([, tensor]) => tensor));
    const result: Examination = {
      replay,
      ...Object.fromEntries(named.map(([name], i) => [name, values[i][0]])),
      sites: await norms(seen),
      gradients: await norms(gradients),
      weights: (await norms(held)).filter(({ norm }) => !Number.isFinite(norm)),
    };
    for (const [, tensor] of named) tensor.dispose();
    return result;
  } finally {
    snapshot.close();
    opened.dispose();
  }
}

/** Reads squares back and gives them up. */
async function norms(squares: [string, Tensor][]): Promise<Measured[]> {
  const values = await readAll(squares.map(([, tensor]) => tensor));
  for (const [, tensor] of squares) tensor.dispose();
  return squares.map(([name], i) => ({ name, norm: Math.sqrt(values[i][0]) }));
}
