import assert from "node:assert/strict";
import { configDifferences, flattenDeep } from "../../lib/study/config_diff.ts";
import {
  lossNames,
  metricLike,
  noMetric,
  readMetrics,
  smoothed,
  thinned,
} from "../../lib/study/run_metrics.ts";
import { makeRun, withRuns } from "./made_runs.ts";

Deno.test("lossNames() finds training losses, text first", () => {
  const names = [
    "drawn/text",
    "flow",
    "flow/norm",
    "held-out/text",
    "learning-rate",
    "loss.kl",
    "text",
    "validation/text",
    "textual",
  ];
  assert.deepEqual(lossNames(names), ["text", "flow", "loss.kl"]);
});

Deno.test("metricLike() takes a whole name, or the only one that ends in it", () => {
  const names = ["loss.text", "loss.flow", "text/norm", "flow/norm", "norm2"];
  assert.equal(metricLike("loss.text", names), "loss.text");
  assert.equal(metricLike("flow", names), "loss.flow");
  assert.equal(metricLike("norm", names), undefined);
  assert.equal(metricLike("orm2", names), undefined);
  assert.match(
    noMetric("norm", names, "r").message,
    /norm of r: text\/norm and flow\/norm end in it/,
  );
  assert.equal(noMetric("los.text", names, "r").help, "the nearest name is loss.text");
});

Deno.test("smoothed() is the mean of the last values that are finite", () => {
  assert.deepEqual(smoothed([1, 3, 5, 7], 2), [1, 2, 4, 6]);
  assert.deepEqual(smoothed([1, NaN, 5, Infinity, Infinity], 2), [1, 1, 5, 5, NaN]);
  assert.deepEqual(smoothed([4, 2], 1), [4, 2]);
  assert.equal(smoothed([1e30, 1, 2, 3], 2)[3], 2.5); // nothing of the huge value is left
});

Deno.test("thinned() keeps ends and peaks, and short curves as they are", () => {
  const steps = Array.from({ length: 1000 }, (_, i) => i + 1);
  const values = steps.map((step) => step === 501 ? 9 : step === 777 ? -9 : Math.sin(step / 50));
  const thin = thinned({ steps, values }, 100);
  assert.ok(thin.steps.length <= 100, `${thin.steps.length}`);
  assert.deepEqual([thin.steps[0], thin.steps.at(-1)], [1, 1000]);
  assert.deepEqual([Math.max(...thin.values), Math.min(...thin.values)], [9, -9]);
  assert.equal(thin.values[thin.steps.indexOf(501)], 9);
  assert.deepEqual(thinned({ steps: [1, 2], values: [3, 4] }, 2), {
    steps: [1, 2],
    values: [3, 4],
  });
});

Deno.test("readMetrics() gives curves in order of steps and leaves out what is not there", () =>
  withRuns((root) => {
    const { dir } = makeRun(root, { metrics: (step) => ({ text: step === 2 ? Infinity : step }) });
    assert.deepEqual(readMetrics(dir, ["text", "flow"]), {
      text: { steps: [1, 2, 3, 4], values: [1, Infinity, 3, 4] },
    });
  }));

Deno.test("configDifferences() compares lists of named records by name", () => {
  const a = {
    seed: 0,
    stages: [{ name: "one", steps: 1 }, { name: "two", steps: 2 }],
    freeze: ["x"],
  };
  const b = {
    seed: 0,
    stages: [{ name: "zero", steps: 0 }, { name: "one", steps: 5 }],
    freeze: ["x", "y"],
  };
  assert.deepEqual(configDifferences(a, b), [
    { path: "stages.one.steps", before: 1, after: 5 },
    { path: "stages.two.name", before: "two", after: undefined },
    { path: "stages.two.steps", before: 2, after: undefined },
    { path: "freeze", before: ["x"], after: ["x", "y"] },
    { path: "stages.zero.name", before: undefined, after: "zero" },
    { path: "stages.zero.steps", before: undefined, after: 0 },
  ]);
  assert.deepEqual(configDifferences(a, structuredClone(a)), []);
  assert.deepEqual({ ...flattenDeep({ a: [{ b: 1 }, 2], c: {} }) }, {
    "a.0.b": 1,
    "a.1": 2,
    c: {},
  });
});
