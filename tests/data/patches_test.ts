import assert from "node:assert/strict";
import { patchify, positionIds, unpatchify } from "../../lib/data/patches.ts";

Deno.test("patchify() orders a token by row, column, channel", () => {
  // Two channels of 2x4; channel 1 is channel 0 plus 100.
  const plane = [0, 1, 2, 3, 4, 5, 6, 7];
  const image = Float32Array.from([...plane, ...plane.map((v) => v + 100)]);
  assert.deepEqual([...patchify(image, 2, 4, 2)], [
    ...[0, 100, 1, 101, 4, 104, 5, 105],
    ...[2, 102, 3, 103, 6, 106, 7, 107],
  ]);
});

Deno.test("unpatchify() undoes patchify(), which drops what fills no patch", () => {
  for (const [h, w, p, c] of [[4, 6, 2, 3], [5, 7, 2, 4], [3, 3, 1, 1], [14, 28, 14, 3]]) {
    const image = Float32Array.from({ length: c * h * w }, (_, i) => i);
    const [rows, cols] = [Math.floor(h / p), Math.floor(w / p)];
    const back = unpatchify(patchify(image, h, w, p), rows, cols, p);
    for (let k = 0; k < c; k++) {
      for (let y = 0; y < rows * p; y++) {
        for (let x = 0; x < cols * p; x++) {
          assert.equal(back[(k * rows * p + y) * cols * p + x], (k * h + y) * w + x);
        }
      }
    }
  }
});

Deno.test("patchify() takes the upper left grid of a padded latent", () => {
  const padded = Float32Array.from({ length: 16 }, (_, i) => i);
  assert.deepEqual([...patchify(padded, 4, 4, 2, { rows: 1, cols: 1 })], [0, 1, 4, 5]);
  assert.throws(() => patchify(padded, 4, 4, 2, { rows: 3, cols: 1 }), {
    name: "RangeError",
    message: "Cannot cut 4x4 into 3x1 patches of 2",
  });
  assert.throws(() => patchify(padded, 1, 16, 2), /Cannot cut 1x16/);
  assert.throws(() => patchify(padded, 3, 3, 1), TypeError);
});

Deno.test("positionIds() refuses a grid beyond its table unless it interpolates", () => {
  assert.deepEqual([...positionIds(2, 3, 70)], [0, 1, 2, 70, 71, 72]);
  assert.throws(
    () => positionIds(71, 1, 70),
    /Cannot place 71x1 patches in a position table of 70x70/,
  );
  assert.deepEqual([...positionIds(1, 4, 2, "interpolate")], [0, 0, 1, 1]);
});
