import assert from "node:assert/strict";
import { figureCsv } from "../../lib/show/export.ts";
import { renderSvg } from "../../lib/show/render.ts";
import { axisWords, logTicks, rangeOf } from "../../lib/show/run_axes.ts";
import { type RunCurves, runFigure } from "../../lib/show/run_curves.ts";

const STEPS = [1, 2, 3, 4];
const made = (arm: string, seed: number, change: Partial<RunCurves> = {}): RunCurves => ({
  run: `made/${arm}/seed-${seed}`,
  group: `made/${arm}`,
  arm,
  finished: true,
  curves: { text: { steps: STEPS, values: [4, 3, null, 1] } },
  ...change,
});

/** Lines of a figure that stand for runs: legends name no panel. */
const lines = (figure: ReturnType<typeof runFigure>) => figure.data.filter(({ meta }) => meta);

Deno.test("runFigure() draws a line per run, runs of an arm alike, arms with a fixed look in it", () => {
  const figure = runFigure([made("joint", 0), made("joint", 1), made("und", 0)], {
    metrics: ["text"],
  });
  assert.deepEqual(lines(figure).map(({ name, line }) => [name, line!.color, line!.dash]), [
    ["made/joint/seed-0", "#009E73", "solid"],
    ["made/joint/seed-1", "#009E73", "solid"],
    ["made/und/seed-0", "#0072B2", "dash"],
  ]);
  const texts = figure.layout.annotations!.map(({ text }) => text);
  assert.ok(texts.includes("made/joint, 2 runs"), texts.join("\n"));
  assert.ok(texts.includes("made/und/seed-0"), texts.join("\n"));
  const others = runFigure([made("joint", 0), made("rank-8", 0)], { metrics: ["text"] });
  const colors = lines(others).map(({ line }) => line!.color);
  assert.equal(new Set(colors).size, 2);
});

Deno.test("runFigure() tells groups apart that share an arm", () => {
  const other = made("joint", 0, { run: "other/joint/seed-0", group: "other/joint" });
  const drawn = lines(runFigure([made("joint", 0), other], { metrics: ["text"] }));
  assert.notEqual(drawn[0].line!.color, drawn[1].line!.color);
});

Deno.test("runFigure() marks the borders of the stages it reached and names them over the plot", () => {
  const stages = [{ name: "foundation", steps: 2 }, { name: "unified", steps: 2 }, {
    name: "never",
    steps: 5,
  }];
  const figure = runFigure([made("joint", 0)], { metrics: ["text"], stages });
  const borders = figure.layout.shapes!.map(({ x0, x1 }) => [x0, x1]);
  assert.deepEqual(borders, [[2, 2]]);
  const texts = figure.layout.annotations!.map(({ text }) => text);
  assert.ok(texts.includes("foundation") && texts.includes("unified"));
  assert.equal(texts.includes("never"), false);
  const [, top] = figure.layout.yaxis2!.domain!; // the first pair of axes is the legend's
  const label = figure.layout.annotations!.find(({ text }) => text === "foundation")!;
  assert.ok(Number(label.y) > top && label.yanchor === "bottom");
});

Deno.test("runFigure() numbers a stage that is too narrow for its name, with the key in its caption", () => {
  const steps = Array.from({ length: 100 }, (_, i) => i + 1);
  const curves = { text: { steps, values: steps } };
  const stages = [{ name: "foundation", steps: 2 }, { name: "unified", steps: 98 }];
  const figure = runFigure([made("joint", 0, { curves })], { metrics: ["text"], stages });
  const texts = figure.layout.annotations!.map(({ text }) => text);
  assert.ok(texts.includes("1") && texts.includes("2 unified"), texts.join("\n"));
  assert.match(figure.caption, /Dashed lines: borders of the stages 1 foundation, 2 unified\./);
});

Deno.test("axisWords() gives words and units for what trainings log, other names as they are", () => {
  assert.deepEqual(
    ["text", "held-out/flow", "held-out/answers", "drawn/i2t", "held-out/chance", "probe/accuracy"]
      .map(axisWords),
    [
      "text loss, cross-entropy (nats)",
      "held out: flow loss, mean squared error",
      "held out: share of answers right",
      "samples of i2t in the stage",
      "held out: chance",
      "probe/accuracy",
    ],
  );
  const figure = runFigure([made("joint", 0)], { metrics: ["text"] });
  const said = figure.layout.annotations!.map(({ text }) => text!.replace("<br>", " "));
  assert.ok(said.includes("text loss, cross-entropy (nats)"), said.join("\n"));
});

Deno.test("runFigure() counts metrics in its title where their names have no room", () => {
  const metrics = Array.from({ length: 12 }, (_, i) => `probe/accuracy-${i}`);
  assert.equal(runFigure([made("joint", 0)], { metrics }).title, "12 metrics by step");
  assert.equal(runFigure([made("joint", 0)], { metrics: ["a", "b"] }).title, "a, b by step");
});

Deno.test("runFigure() says DRAFT across a figure with a run that is not finished", () => {
  const texts = (finished: boolean) => {
    const { layout, caption } = runFigure([made("und", 0), made("joint", 0, { finished })], {
      metrics: ["text"],
    });
    return [
      layout.annotations!.some(({ text }) => text === "DRAFT"),
      /Draft: 1 of 2 runs/.test(caption),
    ];
  };
  assert.deepEqual(texts(false), [true, true]);
  assert.deepEqual(texts(true), [false, false]);
});

Deno.test("runFigure() tells in its caption what it drew, from the numbers", () => {
  const raw = { text: { steps: STEPS, values: [9, 9, 9, 9] } };
  const bad = { text: { steps: [1], values: [null] } };
  const { caption, alt } = runFigure(
    [made("joint", 0, { raw }), made("und", 0, { curves: bad }), made("gen", 0, { curves: {} })],
    { metrics: ["text"], window: 5, log: true, made: "llvmpipe, commit 1a2b3c4" },
  );
  for (
    const fact of [
      "made/joint/seed-0: text 1.000 at step 4",
      "made/und/seed-0: text never finite",
      "made/gen/seed-0: no text",
      "mean of the last 5 logged steps",
      "axes are logarithmic",
      "Trained on llvmpipe, commit 1a2b3c4.",
    ]
  ) assert.ok(caption.includes(fact), `${fact}: ${caption}`);
  assert.ok(alt.includes(caption));
});

Deno.test("runFigure() draws what was logged faintly under what is smoothed", () => {
  const raw = { text: { steps: STEPS, values: [9, 9, 9, 9] } };
  const drawn = lines(runFigure([made("joint", 0, { raw })], { metrics: ["text"] }));
  assert.deepEqual(drawn.map(({ name, opacity }) => [name, opacity]), [
    ["made/joint/seed-0 as logged", 0.25],
    ["made/joint/seed-0", undefined],
  ]);
});

Deno.test("runFigure() renders many runs, metrics and hostile names as SVG, and its numbers as CSV", async () => {
  const runs = Array.from(
    { length: 9 },
    (_, i) => made(`arm-${i}`, 0, { run: `=made/<b>${i}/seed-0` }),
  );
  const figure = runFigure(runs, { metrics: ["text", "flow"] });
  const svg = await renderSvg(figure);
  assert.match(svg, /^<svg/);
  assert.equal(svg.includes("<b>0"), false);
  assert.ok(svg.includes("no finite value")); // flow
  const csv = figureCsv(figure).split("\n");
  assert.equal(csv.filter((row) => row.includes("'=made/<b>3/seed-0")).length, 3); // null is no point
});

Deno.test("runFigure() refuses nothing to draw", () => {
  assert.throws(() => runFigure([], { metrics: ["text"] }), RangeError);
  assert.throws(() => runFigure([made("und", 0)], { metrics: [] }), RangeError);
});

Deno.test("rangeOf() and logTicks() hold all values and some ticks", () => {
  const [low, high] = rangeOf([1, 3, 2], false);
  assert.ok(low < 1 && high > 3);
  assert.deepEqual(rangeOf([], false), [0, 1]);
  assert.ok(rangeOf([5, 5], false)[0] < 5 && rangeOf([5, 5], false)[1] > 5);
  assert.deepEqual(logTicks([-1.1, 0.4]).at, [0.1, 0.2, 0.5, 1, 2]);
  assert.deepEqual(logTicks([-2, 2]).at, [0.01, 0.1, 1, 10, 100]);
  assert.deepEqual(logTicks([-5, -4.9]).text, ["0.00001"]);
});
