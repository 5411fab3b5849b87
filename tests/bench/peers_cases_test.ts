import assert from "node:assert/strict";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { blockCase, type Case, matmulCase, rmsNormCase, softmaxCase } from "./peers_cases.ts";
import { ourEngine } from "./peers_ours.ts";

const block = { samples: 2, length: 9, width: 16, heads: 2, hidden: 24 };
const small: Case[] = [
  matmulCase([37, 19, 23], "NN"),
  matmulCase([37, 19, 23], "NT"),
  matmulCase([37, 19, 23], "TN"),
  softmaxCase(13, 33),
  rmsNormCase(13, 33),
  blockCase({ ...block, causal: true }),
  blockCase({ ...block, causal: false }),
];

for (const test of small) {
  Deno.test(
    `bench:peers accepts our ${test.name} and refuses zeros and a single wrong value`,
    GPU_TEST,
    async () => {
      const engine = ourEngine(await testGpu());
      const job = engine.prepare(test.work, test.inputs);
      job.launch();
      await engine.settle();
      const outputs = await job.read();
      job.dispose();
      assert.equal(test.check(outputs), undefined);
      for (const [i, output] of outputs.entries()) {
        const zeros = outputs.with(i, new Float32Array(output.length));
        assert.match(test.check(zeros) ?? "", /expected/, `output ${i} is zero`);
        const spoiled = outputs.with(i, output.map((v, j) => j === 0 ? v + 9 : v));
        assert.match(test.check(spoiled) ?? "", /expected/, `output ${i} is wrong at 0`);
        assert.match(test.check(outputs.with(i, output.slice(1))) ?? "", /values|undefined/);
      }
      assert.deepEqual(engine.errors, []);
    },
  );
}
