// Data-parallel training: as many ranks as there are train what one process trains. The long form is in
// tests/long/mpi_test.ts.

import assert from "node:assert/strict";
import { mpiTest, runRanks } from "./mpirun.ts";
import { gap, SAME, trainOn } from "./ranks.ts";

Deno.test({
  ...mpiTest("one rank with all samples and two with half of them each have the same losses"),
  fn: async () => {
    const steps = 5;
    const [alone] = await trainOn(1, { steps });
    assert.ok(alone.losses.at(-1)!.text < alone.losses[0].text / 2, "it learns");
    // Two micro-batches a rank; the second rank has text alone.
    const { code, stderr, said } = await runRanks(2, "training", {
      steps,
      micros: 2,
      perturb: "yes",
    });
    const [[two]] = said;
    assert.ok(gap(alone, two) <= SAME, `they differ by ${gap(alone, two)}`);
    // A weight is changed after the last step.
    assert.equal(code, 1);
    const message =
      /weights differ between ranks: rank 1 has another und\.layers\.1\.mlp\.up\.weight/;
    assert.match(stderr, message);
    // State shared out, in buckets smaller than some parameters.
    const [first, second] = await trainOn(2, { steps, sharded: "yes", bucketBytes: 20_000 });
    assert.ok(gap(two, first) <= SAME, `they differ by ${gap(two, first)}`);
    assert.equal(first.held + second.held, two.held);
    assert.ok(Math.min(first.held, second.held) > two.held / 4);
  },
});
