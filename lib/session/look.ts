// A look at held-out data between steps, and what follows from it on all processes.

import type { Communicator } from "../comm/communicator.ts";
import type { StageConfig, TrainConfig } from "../train/config/schema.ts";
import { type Best, heldOutLoss } from "./best.ts";
import type { HeldOutData } from "./held_out.ts";
import type { TrainRecord } from "./record.ts";
import type { TrainOptions, TrainStep } from "./train.ts";

/** What a look needs and changes. */
export interface LookParts {
  stage: StageConfig;
  validate: TrainConfig["validate"];
  /** Of the process that looks. */
  heldOut: HeldOutData | undefined;
  best: Best;
  comm: Communicator;
  record: TrainRecord | undefined;
  options: TrainOptions;
}

/** Looks after a step, which gets what was found; true if the loss is the lowest so far, on all processes. */
export async function look(
  step: TrainStep,
  { stage, validate, heldOut, best, comm, record, options }: LookParts,
): Promise<boolean> {
  let loss: number | undefined;
  if (heldOut) {
    options.onStage?.("looking at held-out data");
    step.validation = await heldOut.look(stage, options.signal);
    loss = heldOutLoss(step.validation, stage);
    await record?.validation(step.number, step.validation, stage);
  }
  const [sum, count] = await comm.sumNumbers([loss ?? 0, loss === undefined ? 0 : 1]);
  if (count === 0) return false;
  const lowest = best.see(`${stage.name}, ${validate.samples} samples`, sum, step.number);
  if (step.validation) step.validation.lowest = lowest;
  if (lowest) record?.event("lowest held-out loss", { loss: sum }, step.number);
  if (best.isOver(validate.patience)) {
    const why = `no lower held-out loss since step ${best.state!.step}: the training ends`;
    if (record) options.onNote?.(`step ${step.number}: ${why}`);
    record?.event("patience", { why }, step.number);
  }
  return lowest;
}
