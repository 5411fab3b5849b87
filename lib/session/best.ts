// Which held-out loss is the lowest so far, and how long ago that was. It decides which checkpoint is kept as `best`
// and, with a patience, when a training ends.

import type { StageConfig } from "../train/config/schema.ts";
import type { Validation } from "./validate.ts";

/** The name of the checkpoint with the lowest held-out loss. */
export const BEST = "best";

/** What is kept over a resume. */
export interface BestState {
  /** What was measured: only losses of the same are compared. */
  measure: string;
  /** The lowest, and the step it was measured after. */
  loss: number;
  step: number;
  /** Validations since then. */
  since: number;
}

/** Compares held-out losses. */
export class Best {
  #state: BestState | undefined;

  constructor(state: BestState | undefined) {
    this.#state = state;
  }

  /** The lowest so far, if any was measured. */
  get state(): Readonly<BestState> | undefined {
    return this.#state;
  }

  /** Takes a loss. @returns true if it is the lowest of its measure; one that is not finite never is */
  see(measure: string, loss: number, step: number): boolean {
    const old = this.#state?.measure === measure ? this.#state : undefined;
    if (Number.isFinite(loss) && loss < (old?.loss ?? Infinity)) {
      this.#state = { measure, loss, step, since: 0 };
      return true;
    }
    if (old) this.#state = { ...old, since: old.since + 1 };
    return false;
  }

  /** Whether `patience` validations in a row were not the lowest. */
  isOver(patience: number | null): boolean {
    return patience !== null && (this.#state?.since ?? 0) >= patience;
  }
}

/** The loss by which validations of a stage are compared: its losses by its weights; undefined if it has none. */
export function heldOutLoss(
  { text, flow }: Pick<Validation, "text" | "flow">,
  { loss }: Pick<StageConfig, "loss">,
): number | undefined {
  if (text === undefined && flow === undefined) return undefined;
  return loss.text * (text ?? 0) + loss.flow * (flow ?? 0);
}
