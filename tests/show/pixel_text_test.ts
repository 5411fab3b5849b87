import assert from "node:assert/strict";
import { captioned, pixelText } from "../../lib/show/pixel_text.ts";
import type { Picture } from "../../lib/show/png.ts";

/** A picture as text: # for dark. */
const drawn = ({ width, height, rgb }: Picture) =>
  Array.from(
    { length: height },
    (_, y) =>
      Array.from({ length: width }, (_, x) => rgb[(y * width + x) * 3] < 128 ? "#" : ".").join(""),
  );

Deno.test("pixelText() writes letters, each of its own shape", () => {
  assert.deepEqual(drawn(pixelText("d o", 1)), [
    "....#............",
    "....#............",
    ".####........###.",
    "#...#.......#...#",
    "#...#.......#...#",
    "#...#.......#...#",
    ".####........###.",
    ".................",
    ".................",
  ]);
  const shapes = [..."abcdefghijklmnopqrstuvwxyz"].map((c) => drawn(pixelText(c, 1)).join("\n"));
  assert.equal(new Set(shapes).size, 26);
  assert.ok(shapes.every((shape) => shape.includes("#")));
  const { width, height } = pixelText("held out");
  assert.deepEqual([width, height], [94, 18]);
  for (const text of ["", "Drawn", "é"]) {
    assert.throws(() => pixelText(text), /^RangeError: Cannot write ".*" in pixels: give letters/);
  }
});

Deno.test("captioned() lays pictures below their captions", () => {
  const picture = (width: number, value: number): Picture => ({
    width,
    height: 3,
    rgb: new Uint8Array(width * 9).fill(value),
  });
  const parts = [
    { caption: "wide", picture: picture(60, 1) },
    { caption: "no", picture: picture(10, 2) },
  ];
  const sheet = captioned(parts, 2);
  assert.deepEqual([sheet.width, sheet.height], [60, 18 + 2 + 3 + 2 + 18 + 2 + 3]);
  const row = (y: number) => sheet.rgb.subarray(y * 180, (y + 1) * 180);
  assert.ok([20, 21, 22].every((y) => row(y).every((v) => v === 1)));
  assert.deepEqual([row(45)[29], row(45)[30]], [2, 255]);
  const caption = drawn(pixelText("wide")).map((line) => line.padEnd(60, "."));
  assert.deepEqual(drawn(sheet).slice(0, 18), caption);
  assert.throws(() => captioned([]), RangeError);
});
