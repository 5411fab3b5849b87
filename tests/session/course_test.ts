import assert from "node:assert/strict";
import { courseOf } from "../../lib/session/course.ts";
import type { RunRecord } from "../../lib/study/read_run.ts";

/** What `courseOf` reads of a run. */
const run = (metrics: RunRecord["metrics"]) => ({
  dir: "runs/chest/rank-8/seed-2",
  header: { study: "chest", arm: "rank-8", seed: 2 },
  sessions: [{ adapter: "llvmpipe", software: true, commit: "1a2b3c4d5e" }],
  events: [{
    kind: "stage",
    detail: { index: 0, name: "foundation", from: 0, to: 9, mix: { i2t: 3, text: 1 } },
  }],
  metrics,
} as unknown as RunRecord);

Deno.test("courseOf() names study, arm and seed, and has the losses that were logged", () => {
  const logged = { steps: [1, 2], values: [2, 1] };
  const course = courseOf(
    run({ flow: logged, norm: logged, "drawn/i2t": { steps: [2], values: [5] } }),
  );
  assert.equal(course.title, "chest, rank-8, seed 2");
  assert.equal(course.provenance, "llvmpipe (software), commit 1a2b3c4.");
  assert.equal("text" in course, false);
  assert.deepEqual(course.flow, { ...logged, heldOut: { steps: [], values: [] } });
  const [{ to, asked, drawn }] = course.stages;
  assert.deepEqual([to, asked, drawn.i2t], [2, { i2t: 0.75, text: 0.25 }, 1]);
});
