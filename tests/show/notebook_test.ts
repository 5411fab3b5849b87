// What a notebook is sent, against a recorded kernel; that it arrives is tested in tests/notebooks_test.ts.

import assert from "node:assert/strict";
import { lossFigure } from "../../lib/show/curves.ts";
import {
  batched,
  bundleOf,
  type Kernel,
  liveFigure,
  notebookKernel,
  show,
  type Showable,
  showProgress,
  tableText,
  textOf,
} from "../../lib/show/notebook.ts";
import { disc } from "./demo_sample.ts";

const DRAWING = { sanitizeOps: false, sanitizeResources: false };
const figure = () => lossFigure([{ arm: "und", steps: [1, 2], ce: [2, 1] }]);

function recorder() {
  const sent: { type: string; content: Record<string, unknown> }[] = [];
  const kernel: Kernel = {
    broadcast: (type, content) => {
      sent.push({ type, content });
      return Promise.resolve();
    },
  };
  return { kernel, sent };
}

Deno.test("notebookKernel() is undefined outside a notebook, where show() prints text", async () => {
  assert.equal(notebookKernel(), undefined);
  const log = console.log;
  const lines: unknown[] = [];
  console.log = (...values) => lines.push(...values);
  try {
    await show([{ arm: "und", accuracy: 0.5 }]);
  } finally {
    console.log = log;
  }
  assert.deepEqual(lines, ["arm  accuracy\nund       0.5"]);
  assert.throws(() => showProgress(), /Cannot show progress here: this is not a notebook/);
});

Deno.test(
  "bundleOf() shows figures as pictures, with the specification only when asked",
  DRAWING,
  async () => {
    const still = await bundleOf(figure());
    assert.deepEqual(Object.keys(still), ["image/png", "text/plain"]);
    assert.ok((still["image/png"] as string).length < 60_000, "committed notebooks stay small");
    const live = await bundleOf(figure(), true) as Record<string, { data: unknown }>;
    assert.deepEqual(live["application/vnd.plotly.v1+json"].data, figure().data);
  },
);

Deno.test("bundleOf() lays pictures side by side and escapes tables", async () => {
  const pictures = await bundleOf([disc(8, 3, [9, 9, 9]), disc(8, 2, [9, 9, 9])]);
  const png = Uint8Array.fromBase64(pictures["image/png"] as string);
  assert.deepEqual(new DataView(png.buffer).getUint32(16), 2 * 128 + 4);
  assert.equal(pictures["text/plain"], "2 pictures, 8 × 8");
  const table = await bundleOf([{ answer: "<script>alert(1)</script>", n: 3 }]);
  assert.ok(!(table["text/html"] as string).includes("<script>"));
  assert.deepEqual(await bundleOf({ html: "<i>x</i>", text: "x" }), {
    "text/html": "<i>x</i>",
    "text/plain": "x",
  });
  assert.throws(() => textOf({} as Showable), /Cannot show \[object Object\]: expected a figure/);
});

Deno.test("show() updates the display it is told to", DRAWING, async () => {
  const { kernel, sent } = recorder();
  const live = liveFigure({ kernel, everyMs: 60_000 });
  await live(figure());
  await live(figure()); // too soon
  await live(figure(), true);
  assert.deepEqual(sent.map((s) => s.type), ["display_data", "update_display_data"]);
  const ids = sent.map((s) => (s.content.transient as { display_id: string }).display_id);
  assert.equal(ids[0], ids[1]);
});

Deno.test("batched() sends the lines of one turn as one message, in order", async () => {
  const messages: string[] = [];
  const log = batched((text) => messages.push(text));
  log("a", 1);
  log({ b: 2 });
  await Promise.resolve();
  log("c");
  await Promise.resolve();
  assert.deepEqual(messages, ["a 1\n{ b: 2 }", "c"]);
});

Deno.test("tableText() puts numbers to the right", () => {
  const text = tableText([{ arm: "und", n: 5 }, { arm: "joint", n: 1500 }]);
  assert.equal(text, "arm       n\nund       5\njoint  1500");
});
