// What tests of data-parallel training compare.

import assert from "node:assert/strict";
import { runRanks } from "./mpirun.ts";
import type { TrainResult } from "./train_task.ts";

/** Loss values differ by sums in another order, then by what training makes of that. */
export const SAME = 1e-5;

/** Largest difference of the losses of two runs. */
export function gap(a: TrainResult, b: TrainResult): number {
  assert.equal(a.losses.length, b.losses.length);
  return Math.max(
    ...a.losses.flatMap(({ text, flow }, i) => [
      Math.abs(text - b.losses[i].text),
      Math.abs(flow - b.losses[i].flow),
    ]),
  );
}

/** Trains on so many ranks and checks that all of them saw the same. */
export async function trainOn(
  ranks: number,
  settings: Readonly<Record<string, string | number>>,
): Promise<TrainResult[]> {
  const { code, stderr, said } = await runRanks(ranks, "training", settings);
  assert.equal(code, 0, stderr);
  const results: TrainResult[] = said.map(([result]) => result);
  for (const { losses, live } of results) {
    assert.deepEqual(losses, results[0].losses);
    assert.equal(live, 0, "a step leaves nothing on the device");
  }
  return results;
}
