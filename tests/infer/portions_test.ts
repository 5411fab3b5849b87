import assert from "node:assert/strict";
import type { Block } from "../../lib/infer/pass.ts";
import { portionsOf } from "../../lib/infer/portions.ts";
import { picture, SMALL } from "../model/small.ts";

const text = (n: number): Block => ({ kind: "text", ids: Array.from({ length: n }, (_, i) => i) });
const image: Block = { kind: "vit", image: picture(1) }; // 4 patches, 6 tokens
const sizes = (portions: Block[][][]) =>
  portions.map((portion) =>
    portion.map((blocks) => blocks.map((b) => b.kind === "text" ? b.ids.length : b.kind).join(" "))
  );

Deno.test("portionsOf() keeps short prompts whole", () => {
  assert.deepEqual(sizes(portionsOf([[text(5), image, text(7)]], SMALL)), [["5 vit 7"]]);
  assert.deepEqual(portionsOf([[]], SMALL), []);
});

Deno.test("portionsOf() cuts text anywhere and images nowhere", () => {
  assert.deepEqual(sizes(portionsOf([[text(23), image, image, text(2)]], SMALL, 10)), [
    ["10"],
    ["10"],
    ["3 vit"],
    ["vit 2"],
  ]);
  assert.deepEqual(
    sizes(portionsOf([[image, text(3)]], SMALL, 4)),
    [["vit"], ["3"]],
    "an image that is too large",
  );
  const [[[first]], [[second]]] = portionsOf([[text(6)]], SMALL, 4);
  assert.deepEqual([first, second].map((b) => b.kind === "text" && b.ids), [[0, 1, 2, 3], [4, 5]]);
});

Deno.test("portionsOf() shares a portion among sequences, and one may end before another", () => {
  assert.deepEqual(sizes(portionsOf([[text(7)], [text(2), image]], SMALL, 10)), [["5", "2"], [
    "2",
    "vit",
  ]]);
});
