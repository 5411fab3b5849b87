// The long form of tests/comm/training_test.ts: 20 steps on 1, 2 and 4 ranks, and the same bits when repeated. Run by
// `deno task test:long`.

import assert from "node:assert/strict";
import { HAS_MPIRUN } from "../comm/mpirun.ts";
import { gap, SAME, trainOn } from "../comm/ranks.ts";

const WANTED = Deno.env.get("OKA_LONG") === "1";
const name =
  "20 steps on 1, 2 and 4 ranks have the same losses, state shared out or not, and again";

Deno.test({
  name: !WANTED ? `${name} (long: deno task test:long)` : HAS_MPIRUN ? name : `${name} (no mpirun)`,
  ignore: !WANTED || !HAS_MPIRUN,
  fn: async () => {
    const steps = 20;
    const [alone] = await trainOn(1, { steps });
    const arms: [number, Record<string, string | number>][] = [
      [2, {}],
      [2, { micros: 3 }],
      [4, {}],
      [4, { sharded: "yes" }],
    ];
    for (const [ranks, settings] of arms) {
      const what = `${ranks} ranks ${JSON.stringify(settings)}`;
      const [result] = await trainOn(ranks, { steps, ...settings });
      const apart = gap(alone, result);
      console.log(
        `${what}: largest difference of a loss from one rank's ${apart.toExponential(1)}`,
      );
      assert.ok(apart <= SAME, `${what}: ${apart}`);
    }
    const settings = { steps, bucketBytes: 2 ** 16 };
    const [first] = await trainOn(4, settings);
    const [again] = await trainOn(4, settings);
    assert.deepEqual(again.losses, first.losses, "the same bits");
  },
});
