import assert from "node:assert/strict";
import { type Figure, plain } from "../../lib/show/figure.ts";
import { renderSvg } from "../../lib/show/render.ts";
import { type LossSeries, type StagedCourse, stagedFigure } from "../../lib/show/stage_losses.ts";
import { centredMean, windowOf } from "../../lib/show/centred_mean.ts";

const COUNT = 120;
const steps = Array.from({ length: COUNT }, (_, i) => i + 1);
const loss = (change: Partial<LossSeries> = {}): LossSeries => ({
  steps,
  values: steps.map((step) => 4 / step + 1),
  heldOut: { steps: [40, 120], values: [1.2, 1.1] },
  ...change,
});

/** A training of three stages, the first of 10 steps. */
function course(change: Partial<StagedCourse> = {}): StagedCourse {
  const mix = { asked: { i2t: 0.5, text: 0.5 }, drawn: { i2t: 0.4, text: 0.6 } };
  return {
    title: "study, arm, seed 3",
    text: loss(),
    flow: loss(),
    stages: [
      { name: "foundation", from: 0, to: 10, ...mix },
      { name: "instruction", from: 10, to: 80, ...mix },
      { name: "unified", from: 80, to: COUNT, ...mix },
    ],
    provenance: "llvmpipe.",
    ...change,
  };
}

const without = (...names: ("text" | "flow")[]) => {
  const made = course();
  for (const name of names) delete made[name];
  return made;
};
const texts = ({ layout }: Figure) => layout.annotations!.map(({ text }) => plain(text!));
const panels = ({ data }: Figure) => [...new Set(data.map(({ meta }) => meta))].filter(Boolean);
const axis = (figure: Figure, name: string) =>
  (figure.layout as unknown as Record<string, { domain: number[] }>)[name].domain;

Deno.test("stagedFigure() has a legend of what it draws, with the window of the mean", () => {
  const named = ["each logged step", "centred mean of 5 logged steps", "held-out data"];
  const figure = stagedFigure(course());
  for (const name of named) assert.ok(texts(figure).includes(name), name);
  const blind = { heldOut: { steps: [], values: [] } };
  const unseen = stagedFigure(course({ text: loss(blind), flow: loss(blind) }));
  assert.deepEqual(named.map((name) => texts(unseen).includes(name)), [true, true, false]);
  assert.match(figure.caption, /bold the centred mean of 5 logged steps/);
});

Deno.test("stagedFigure() leaves out a loss that the training has not, and the rest takes its room", () => {
  assert.deepEqual(panels(stagedFigure(course())), [
    "(a) Text",
    "(b) Images",
    "(c) Mix of tasks, by samples",
  ]);
  const [left, right] = axis(stagedFigure(course()), "xaxis");
  for (const name of ["text", "flow"] as const) {
    const one = stagedFigure(without(name));
    assert.deepEqual(panels(one), [
      name === "text" ? "(a) Images" : "(a) Text",
      "(b) Mix of tasks, by samples",
    ]);
    const [from, to] = axis(one, "xaxis");
    assert.ok(from === left && to - from > 2 * (right - left), `${from}–${to}`);
  }
  const none = stagedFigure(without("text", "flow"));
  assert.deepEqual(panels(none), ["(a) Mix of tasks, by samples"]);
  assert.equal(texts(none).includes("step"), false);
  const nothing = { steps: [], values: [], heldOut: { steps: [], values: [] } };
  assert.deepEqual(
    panels(stagedFigure(course({ text: nothing }))),
    panels(stagedFigure(without("text"))),
  );
});

Deno.test("stagedFigure() labels every stage over its panels, with a key where names are short of room", () => {
  const figure = stagedFigure(course());
  const { layout } = figure;
  const key = "Stages: 1 foundation, 2 instruction, 3 unified";
  assert.ok(texts(figure).includes(key), texts(figure).join("\n"));
  const tops = ["yaxis", "yaxis2"].map((name) => axis(figure, name)[1]);
  for (const label of ["1", "2 instruction", "3 unified"]) {
    const found = layout.annotations!.filter(({ text }) => text === label);
    assert.deepEqual(found.map(({ y, yanchor }) => [Number(y) > tops[0], yanchor]), [
      [true, "bottom"],
      [true, "bottom"],
    ], label);
  }
  const stages = course().stages.map((stage, i) => ({ ...stage, from: 40 * i, to: 40 * i + 40 }));
  const wide = texts(stagedFigure({ ...without("text"), stages }));
  for (const { name } of stages) assert.ok(wide.includes(name));
  assert.equal(wide.some((text) => text.startsWith("Stages:")), false);
});

Deno.test("stagedFigure() says where no value is finite, in what is rendered too", async () => {
  const values = steps.map(() => NaN);
  const figure = stagedFigure(
    course({ text: loss({ values, heldOut: { steps: [], values: [] } }) }),
  );
  assert.equal(texts(figure).filter((text) => text === "no finite value").length, 1);
  const svg = await renderSvg(figure);
  for (const text of ["study, arm, seed 3", "no finite value", "held-out data", "2 instruction"]) {
    assert.ok(svg.includes(text), text);
  }
});

Deno.test("centredMean() lags behind no slope, and passes over what is not finite", () => {
  const line = steps.map((step) => 10 - 0.05 * step);
  centredMean(line, 13).forEach((v, i) => assert.ok(Math.abs(v - line[i]) < 1e-12, `${i}: ${v}`));
  assert.deepEqual(centredMean([1, 5, 3, 7, 9], 3), [1, 3, 5, 19 / 3, 9]);
  assert.deepEqual(centredMean([1, NaN, 3], 3), [1, 2, 3]);
  assert.deepEqual(centredMean([NaN], 5), [NaN]);
});

Deno.test("windowOf() is odd, and between 5 and 101", () => {
  assert.deepEqual([0, 10, 340, 3000, 1e6].map(windowOf), [5, 5, 13, 101, 101]);
});
