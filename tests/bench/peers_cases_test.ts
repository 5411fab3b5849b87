import assert from "node:assert/strict";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { blockCase, type Case, matmulCase, rmsNormCase, softmaxCase } from "./peers_cases.ts";
import { ourEngine } from "./peers_ours.ts";

const block = { samples: 2, length: 9, width: 16, heads: 2, hidden: 24 };
const makers: (() => Case)[] = [
  () => matmulCase([37, 19, 23], "NN"),
  () => matmulCase([37, 19, 23], "NT"),
  () => matmulCase([37, 19, 23], "TN"),
  () => softmaxCase(13, 33),
  () => rmsNormCase(13, 33),
  () => blockCase({ ...block, causal: true }),
  () => blockCase({ ...block, causal: false }),
];

for (const make of makers) {
  const test = make();
  const name = `bench:peers accepts our ${test.name}, and no zeros or single wrong value`;
  Deno.test(name, GPU_TEST, async () => {
    const engine = ourEngine(await testGpu());
    const job = engine.prepare(test.work, test.inputs);
    job.launch();
    await engine.settle();
    const outputs = await job.read();
    job.dispose();
    assert.equal(test.check(outputs), undefined);
    assert.deepEqual(engine.errors, []);
    for (const [i, output] of outputs.entries()) {
      const refuses = (values: Float32Array, what: string) => {
        const fresh = make(); // it has seen no engine that was right
        assert.ok(fresh.check(outputs.with(i, values)), `output ${i} ${what}`);
      };
      refuses(new Float32Array(output.length), "is zero");
      refuses(output.map((v, j) => j === 0 ? v + 9 : v), "is wrong at 0");
      refuses(output.slice(1), "is too short");
    }
  });
}

Deno.test(
  "a block's check compares gradients with those it accepted first, entry by entry",
  GPU_TEST,
  async () => {
    const test = blockCase({ ...block, causal: true });
    const engine = ourEngine(await testGpu());
    const job = engine.prepare(test.work, test.inputs);
    job.launch();
    const outputs = await job.read();
    job.dispose();
    const moved = outputs[1].slice();
    moved[0] += 0.002 * Math.max(...moved.map(Math.abs)); // too little for the slope
    const spoiled = outputs.with(1, moved);
    assert.equal(test.check(outputs), undefined);
    assert.match(test.check(spoiled) ?? "", /^dx\[0\] is/);
  },
);
