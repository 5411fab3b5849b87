import assert from "node:assert/strict";
import { figureCsv } from "../../lib/show/export.ts";
import { type PartCourse, partFigure } from "../../lib/show/part_losses.ts";
import { renderSvg } from "../../lib/show/render.ts";

const COURSE: PartCourse = {
  title: "vae, train, seed 0",
  loss: { steps: [1, 2, 3], values: [3, 2, 1], heldOut: { steps: [2], values: [2.5] } },
  measures: [{ name: "PSNR", steps: [2], values: [14.25] }],
  measured: { title: "Reconstruction", unit: "PSNR (dB)" },
  split: "images: 22 to train on, 8 held out",
  provenance: "made up.",
};
const RECALL: PartCourse = {
  ...COURSE,
  measures: [
    { name: "image-to-text", steps: [2, 3], values: [0.125, 0.5] },
    { name: "text-to-image", steps: [2, 3], values: [0.125, 0.25] },
  ],
  measured: { title: "Right partner found", unit: "recall at 1" },
  chance: 0.125,
};

Deno.test("partFigure() draws each step, its mean and held-out points, and what is measured beside them", () => {
  const rows = figureCsv(partFigure(COURSE)).trim().split("\n").slice(1)
    .map((row) => row.split(",").slice(0, 5).join(","));
  assert.deepEqual(rows.filter((row) => !row.includes("centred mean")), [
    "(a) Loss,each step,,1,3",
    "(a) Loss,each step,,2,2",
    "(a) Loss,each step,,3,1",
    "(a) Loss,held out,,2,2.5",
    "(b) Reconstruction,PSNR,,2,14.25",
  ]);
  assert.equal(rows.filter((row) => row.includes("centred mean")).length, 3);
});

Deno.test("partFigure() says in its caption what came of it, and of what data", () => {
  const { caption } = partFigure(COURSE);
  assert.match(caption, /Held-out data, PSNR \(dB\): higher is better\. /);
  assert.match(
    caption,
    /After step 3: loss 2 \(mean of the last 5\), held out 2\.5, PSNR 14\.3\. /,
  );
  assert.match(caption, /Images: 22 to train on, 8 held out\. made up\.$/);
  assert.match(partFigure(RECALL).caption, /broken line a blind choice, 0\.125\./);
});

Deno.test("partFigure() draws chance as a line, and has one wide panel where nothing is measured", () => {
  const { layout } = partFigure(RECALL);
  assert.deepEqual(layout.shapes!.map(({ y0, y1 }) => [y0, y1]), [[0.125, 0.125]]);
  const alone = partFigure({ ...COURSE, measures: [] });
  assert.equal("xaxis2" in alone.layout, false);
  assert.equal(alone.layout.shapes!.length, 0);
  assert.match(alone.caption, /^Loss by step: [^.]*\. After/);
});

Deno.test("partFigure() takes a logarithmic axis for losses of several decades, all above 0", () => {
  const typeOf = (values: number[]) =>
    (partFigure({ ...COURSE, loss: { ...COURSE.loss, values } }).layout as {
      yaxis: { type?: string };
    })
      .yaxis.type;
  assert.equal(typeOf([3, 2, 0.01]), "log");
  assert.equal(typeOf([3, 2, 1]), undefined);
  assert.equal(typeOf([3, 2, 0]), undefined);
});

Deno.test("partFigure() can be drawn before a step was made", async () => {
  const none = { steps: [], values: [] };
  const figure = partFigure({ ...COURSE, loss: { ...none, heldOut: none }, measures: [] });
  assert.match(await renderSvg(figure), /^<svg/);
  assert.doesNotMatch(figure.caption, /After step/);
});
