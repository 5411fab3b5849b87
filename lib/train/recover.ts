// A device that is lost takes nothing along that a checkpoint holds: training starts again from the last one, once. A
// second loss is no accident, and the run stops.

import { DeviceLostError } from "../errors.ts";

/** One try of a session. */
export interface Attempt {
  /** 0 for the first. */
  number: number;
  /** Step of the checkpoint to go on from; absent: as the run was asked to start. */
  from?: number;
}

/** What {@link surviveLoss} needs to know. */
export interface SurviveOptions {
  /** Step of the newest whole checkpoint, or undefined if there is none. */
  lastCheckpoint: () => Promise<number | undefined>;
  /** Told before another try, with the loss in words. */
  onRestart?: (attempt: Attempt, loss: string) => void;
  /** Losses that are survived. Default: 1. */
  restarts?: number;
}

/**
 * Runs a session, again from the last checkpoint if it loses the device. Each try opens a device of its own; a run
 * without a checkpoint starts over as it was asked to.
 *
 * @param session runs to its end or throws
 * @throws {DeviceLostError} If the device is lost once more than is survived (exit 4)
 * @throws whatever else the session throws, as it is
 */
export async function surviveLoss<T>(
  session: (attempt: Attempt) => Promise<T>,
  { lastCheckpoint, onRestart, restarts = 1 }: SurviveOptions,
): Promise<T> {
  let attempt: Attempt = { number: 0 };
  while (true) {
    try {
      return await session(attempt);
    } catch (error) {
      if (!(error instanceof DeviceLostError)) throw error;
      const from = await lastCheckpoint();
      const stands = from === undefined ? "no checkpoint was saved" : `step ${from} stands`;
      if (attempt.number >= restarts) {
        const times = attempt.number + 1;
        throw new DeviceLostError(
          `${error.message}, ${times === 1 ? "once" : `${times} times`} in this run; ${stands}`,
          { cause: error, help: "look after the device, then go on by --resume" },
        );
      }
      attempt = { number: attempt.number + 1, ...(from === undefined ? {} : { from }) };
      onRestart?.(attempt, error.message);
    }
  }
}
