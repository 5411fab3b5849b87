import assert from "node:assert/strict";
import { inflateSync } from "node:zlib";
import { demoFigure } from "../../lib/show/demo_figure.ts";
import {
  ARM_STYLES,
  armStyle,
  escapeHtml,
  inTwoLines,
  percent,
  plain,
  pointsOf,
} from "../../lib/show/figure.ts";
import { lossFigure } from "../../lib/show/curves.ts";
import { encodePng, strip } from "../../lib/show/png.ts";
import { disc, sampleDemoResult } from "./demo_sample.ts";

const texts = (figure: ReturnType<typeof demoFigure>) =>
  (figure.layout.annotations as { text: string }[]).map((a) => plain(a.text));

Deno.test("armStyle() gives the lab's fixed colours, all looks different in grey", () => {
  assert.equal(armStyle("und").color, "#0072B2");
  assert.equal(armStyle("joint").color, "#009E73");
  const symbols = Object.values(ARM_STYLES).map((s) => s.symbol);
  assert.equal(new Set(symbols).size, symbols.length);
  assert.throws(
    () => armStyle("jiont"),
    /^RangeError: Cannot draw arm "jiont": known are untrained/,
  );
  assert.throws(() => armStyle("toString"), RangeError);
});

Deno.test("demoFigure() draws every number it was given", () => {
  const result = sampleDemoResult();
  const { data } = demoFigure(result);
  const drawn = (name: string, panel: RegExp) =>
    data.filter((d) => d.name === name && panel.test(d.meta ?? "")).flatMap((d) => d.y as number[]);
  const planted = result.planted!;
  for (const { arm, starved, others } of planted.arms) {
    assert.deepEqual(drawn(arm, /Planted world/), [starved.mean, others.mean]);
  }
  assert.deepEqual(
    drawn("joint", /accuracy by question/),
    result.natural!.questions.map((q) => q.arms[2].accuracy.mean),
  );
  assert.deepEqual(
    drawn("und", /Probe: lesion/),
    result.probes[1].arms[1].values.map((v) => v.mean),
  );
  assert.deepEqual(drawn("joint", /Planted: flow/), result.curves[1].flow);
  const planted45 = data.find((d) => d.name === "joint − und, planted")!;
  assert.deepEqual(planted45.x, [0.45, 0.008]);
  const error = (planted45 as { error_x: { array: number[] } }).error_x;
  assert.ok(Math.abs(error.array[0] - 0.028) < 1e-12);
});

Deno.test("demoFigure() writes the gate's verdict and states the run in its caption", () => {
  const figure = demoFigure(sampleDemoResult());
  assert.ok(texts(figure).includes("generation learned"));
  assert.ok(texts(figure).includes("inconclusive: generation not learned"));
  const facts = [
    /on "modality" \+45\.0 points \[\+42\.2, \+47\.8\]/,
    /Natural world: .*joint minus und, inconclusive: generation not learned\./,
    /Gate, [nN]atural world, joint: .* 31\.0 % \(its interval must lie above 50\.0 %\): not passed/,
    /n = 1\u202f500 held-out images per world, 1 seed \(0\), 400 steps/,
    /llvmpipe 256-bit \(software\), commit 1a2b3c4/,
    /start from a common initialization/,
    /One seed: the brackets leave out/,
  ];
  for (const fact of facts) assert.match(figure.caption, fact);
  assert.match(figure.alt, /Planted world, modality: .*joint 86\.0 %, blocked 42\.0 %/);
});

Deno.test("demoFigure() draws inconclusive differences in grey", () => {
  const { data } = demoFigure(sampleDemoResult());
  const color = (name: string) =>
    (data.find((d) => d.name === name)!.marker as { color: string }).color;
  assert.equal(color("joint − und, planted"), ARM_STYLES.joint.color);
  assert.notEqual(color("joint − und, natural"), ARM_STYLES.joint.color);
});

Deno.test("demoFigure() of real images alone leaves the planted world out and names a missing arm", () => {
  const { planted: _, samples: __, ...rest } = sampleDemoResult();
  const questions = rest.natural!.questions.map((q) => ({
    ...q,
    arms: q.arms.filter((a) => a.arm !== "untrained"),
  }));
  const result = {
    ...rest,
    natural: { name: "medpack <b>", questions },
    curves: rest.curves.filter((c) => c.world === "natural"),
    draft: true,
  };
  const figure = demoFigure(result);
  const words = texts(figure);
  assert.ok(words.includes("missing: untrained"));
  assert.ok(words.includes("DRAFT"));
  assert.ok(!words.some((w) => w.includes("Planted")));
  assert.ok(words.some((w) => w.includes("Medpack <b>: accuracy by question")));
  assert.match(figure.caption, /DRAFT/);
});

Deno.test("demoFigure() keeps texts of one panel row inside the page", () => {
  const { layout } = demoFigure(sampleDemoResult());
  for (const a of layout.annotations as { x: number; y: number; text: string; xref: string }[]) {
    if (a.xref === "paper") assert.ok(a.x >= 0 && a.x <= 1, a.text);
  }
  for (const [name, axis] of Object.entries(layout)) {
    if (!/^[xy]axis/.test(name)) continue;
    const [from, to] = (axis as { domain: [number, number] }).domain;
    assert.ok(from >= 0 && to <= 1 && from < to, `${name} ${from} ${to}`);
  }
});

Deno.test("lossFigure() has a flow panel only when there is a flow loss", () => {
  const ce = { arm: "und", steps: [1, 2], ce: [2, 1] };
  assert.equal(lossFigure([ce]).data.filter((d) => d.meta).length, 1);
  const both = lossFigure([ce, { arm: "joint", steps: [1, 2], ce: [2, 1.5], flow: [null, 0.5] }]);
  assert.equal(both.data.filter((d) => d.meta).length, 3);
  assert.match(both.caption, /und at step 2: cross-entropy 1\.000; joint .* flow 0\.500/);
});

Deno.test("encodePng() holds the pixels it was given", () => {
  const picture = disc(5, 2, [200, 10, 30]);
  const png = encodePng(picture);
  assert.deepEqual([...png.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const view = new DataView(png.buffer);
  assert.deepEqual([view.getUint32(16), view.getUint32(20)], [5, 5]);
  const size = view.getUint32(33); // IDAT follows the 25 bytes of IHDR
  const rows = inflateSync(png.subarray(41, 41 + size));
  const pixels = [];
  for (let y = 0; y < 5; y++) pixels.push(...rows.subarray(y * 16 + 1, y * 16 + 16));
  assert.deepEqual(pixels, [...picture.rgb]);
  assert.throws(() => encodePng({ ...picture, width: 6 }), /Cannot encode a 6 × 5 RGB picture/);
});

Deno.test("strip() enlarges by whole pixels and leaves missing pictures white", () => {
  const sheet = strip([[disc(2, 9, [1, 2, 3]), undefined]], { cell: 4, gap: 1 });
  assert.deepEqual([sheet.width, sheet.height], [9, 4]);
  assert.deepEqual([...sheet.rgb.subarray(0, 3)], [1, 2, 3]);
  assert.deepEqual([...sheet.rgb.subarray(3 * 3, 3 * 3 + 6)], [1, 2, 3, 255, 255, 255]);
  assert.throws(() => strip([[]]), /^RangeError: Cannot lay out a strip: no pictures$/);
});

Deno.test("inTwoLines() breaks what has no room, near the middle", () => {
  assert.deepEqual(inTwoLines("gradient norm", 130, 10), ["gradient norm"]);
  assert.deepEqual(inTwoLines("text loss, cross-entropy (nats)", 130, 10), [
    "text loss,",
    "cross-entropy (nats)",
  ]);
  assert.deepEqual(inTwoLines("unbreakable", 5, 10), ["unbreakable"]);
});

Deno.test("escapeHtml() and plain() undo each other; numbers have a sign and a unit", () => {
  const text = `<b>"a" & 'b'</b>`;
  assert.ok(!/[<>"']/.test(escapeHtml(text)));
  assert.equal(plain(escapeHtml(text)), text);
  assert.equal(percent(0.8123), "81.2 %");
  assert.equal(pointsOf(-0.031), "−3.1 points");
});
