// Looks at a batch that stopped a run: with the weights it met, where does the first number stop being finite?

import { backward, noGrad } from "../autograd.ts";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Site } from "../nn/site.ts";
import { sumSquares } from "../ops/global_norm.ts";
import { scale } from "../ops/unary.ts";
import { readHeader } from "../study/run_folder.ts";
import { readAll, type Tensor, tidy } from "../tensor.ts";
import { openSnapshot } from "../train/checkpoint/open.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { objectiveLoss } from "../train/objective.ts";
import { readReplay, type Replay } from "../train/replay.ts";
import { openTrainModel } from "./model.ts";
import { restoreWeights } from "./snapshot.ts";

/** A value with its L2 norm, which may be beyond f32 though every number of it is finite. */
export interface Measured {
  name: string;
  norm: number;
  finite: boolean;
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
    const seen: Squares[] = [];
    const site: Site = (name, x) => {
      seen.push(squaresOf(name, x));
      return x;
    };
    const { losses, gradients } = tidy(() => {
      const { text, flow, total } = objectiveLoss(model, replay.objective, site);
      const found = backward(total);
      const names = new Map([...model.parameters.entries()].map(([name, t]) => [t, name]));
      const gradients = [...found].map(([t, gradient]) => squaresOf(names.get(t)!, gradient));
      const losses = { ...(text ? { text } : {}), ...(flow ? { flow } : {}) };
      for (const gradient of found.values()) gradient.dispose();
      return { losses, gradients };
    });
    const held = [...model.parameters.entries()].filter(([, { dtype }]) => dtype === "f32")
      .map(([name, tensor]) => squaresOf(name, tensor));
    const named = Object.entries(losses) as ["text" | "flow", Tensor][];
    const values = await readAll(named.map(([, tensor]) => tensor));
    const result: Examination = {
      replay,
      ...Object.fromEntries(named.map(([name], i) => [name, values[i][0]])),
      sites: await norms(seen),
      gradients: await norms(gradients),
      weights: (await norms(held)).filter(({ finite }) => !finite),
    };
    for (const [, tensor] of named) tensor.dispose();
    return result;
  } finally {
    snapshot.close();
    opened.dispose();
  }
}

/** Sums of a value's squares: as it is, and so small that only what is not finite makes the sum so. */
interface Squares {
  name: string;
  sums: [plain: Tensor, small: Tensor];
}

/** The largest f32 times this, squared, is far from the largest f32. */
const SMALL = 1e-24;

function squaresOf(name: string, x: Tensor): Squares {
  const sums = tidy(() =>
    noGrad(() => [sumSquares([x]), sumSquares([scale(x.alias(), SMALL)])] as [Tensor, Tensor])
  );
  for (const sum of sums) sum.keep();
  return { name, sums };
}

/** Reads squares back and gives them up. */
async function norms(squares: readonly Squares[]): Promise<Measured[]> {
  const tensors = squares.flatMap(({ sums }) => sums);
  const values = await readAll(tensors);
  for (const tensor of tensors) tensor.dispose();
  return squares.map(({ name }, i) => ({
    name,
    norm: Math.sqrt(values[2 * i][0]),
    finite: Number.isFinite(values[2 * i + 1][0]),
  }));
}
