import assert from "node:assert/strict";
import { heldOutText, type Shown, stateOf } from "../../lib/cli/train_run.ts";
import { progressLine } from "../../lib/show/progress.ts";

Deno.test("heldOutText() says that it is the loss that is the lowest", () => {
  const answers = [true, false, true].map((correct, i) => ({
    item: `chest/${i}`,
    target: "a",
    answer: "a",
    correct,
  }));
  const found = { text: 0.3431, flow: 1.2034, answers, drawings: [] };
  assert.equal(
    heldOutText({ ...found, lowest: true }),
    "text 0.343, flow 1.203 (lowest loss of this stage), 2 of 3 answers right",
  );
  assert.equal(
    heldOutText({ ...found, lowest: false }),
    "text 0.343, flow 1.203, 2 of 3 answers right",
  );
  assert.equal(
    heldOutText({ flow: 1.2, answers: [], drawings: [], lowest: true }),
    "flow 1.200 (lowest loss of this stage)",
  );
  assert.equal(heldOutText({ answers, drawings: [] }), "2 of 3 answers right");
});

Deno.test("stateOf() keeps steps, losses, tok/s and time left at 80 columns, and all where there is room", () => {
  const gpu = { buffers: { liveBytes: 1.2e9, budgetBytes: 4e9 } };
  const step: Shown = {
    number: 1204,
    total: 40_000,
    stage: "instruction",
    text: 0.68,
    flow: 1.65,
    norm: 0.982,
    tokensPerSecond: 2204,
    waiting: 0.0071,
  };
  const line = (columns: number, doing?: string) =>
    progressLine(stateOf(step, "tiny-curriculum", gpu, doing), 43_000, columns - 1);
  for (const part of ["1204/40000", "text 0.680", "flow 1.65", "tok/s 2.2k", "left 43 s"]) {
    assert.ok(line(80).includes(part), line(80));
  }
  assert.doesNotMatch(line(80), /grad|gpu|tiny-curriculum/);
  assert.match(line(120), /waiting 0\.7 %/);
  assert.match(line(200), /^tiny-curriculum .* grad 0\.982 {2}gpu 1\.2\/4\.0 GB {2}left 43 s$/);
  assert.match(line(80, "looking at held-out data"), /looking at held-out data {2}left 43 s$/);
});
