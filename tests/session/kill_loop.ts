// A training that is killed again and again, and resumed, until it is done.

import assert from "node:assert/strict";
import { findCheckpoint } from "../../lib/train/checkpoint/find.ts";
import { uniform } from "../helpers.ts";
import { startTraining } from "./processes.ts";

/** How a training went. */
export interface KillTally {
  kills: number;
  /** Steps that were made more than once. */
  repeated: number;
}

/**
 * Runs a training to its end over `kills` kills at random moments; asserts that none lost a checkpoint or cost more
 * than `saveEvery` steps.
 *
 * @param args of the training, with `--run` and `--resume`
 */
export async function killAndResume(
  run: string,
  args: readonly string[],
  { kills, saveEvery, seed }: { kills: number; saveEvery: number; seed: number },
): Promise<KillTally> {
  const draw = uniform(seed);
  const tally = { kills: 0, repeated: 0 };
  let told = 0; // the last step that a process told
  while (true) {
    const process = await startTraining(args);
    let first = true;
    if (tally.kills < kills) {
      // From the first new step on, within the time of about two steps and their saves.
      const begun = await process.step(0).catch(() => undefined);
      if (begun !== undefined) {
        await new Promise((done) => setTimeout(done, 700 * draw()));
        process.child.kill("SIGKILL");
        tally.kills++;
      }
    }
    const { code, events, stderr } = await process.ended;
    for (const { event, number } of events) {
      if (event !== "step") continue;
      if (first) {
        const again = Math.max(0, told - number! + 1);
        assert.ok(again <= saveEvery, `seed ${seed}: ${again} steps were made again`);
        tally.repeated += again;
        first = false;
      }
      told = number!;
    }
    if (code === 0) return tally;
    assert.equal(code, 137, `seed ${seed}: ended with ${code}: ${stderr}`);
    if (told >= saveEvery) {
      assert.ok(await findCheckpoint(run), `seed ${seed}: no checkpoint is left`);
    }
  }
}
