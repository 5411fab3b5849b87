import assert from "node:assert/strict";
import { normalNoise } from "../lib/data/noise.ts";
import {
  GROUP,
  PACKED,
  type PackedFormat,
  packedRow,
  packRows,
  unpackRows,
} from "../lib/packed_layout.ts";

const FORMATS = Object.keys(PACKED) as PackedFormat[];

Deno.test("packRows() keeps every value within half a step of its group, also in a short last group", () => {
  for (const format of FORMATS) {
    for (const columns of [1, 7, 63, 64, 65, 588]) {
      const values = normalNoise(3 * columns, "pack", columns);
      const packed = packRows(values, columns, format);
      assert.equal(packed.length, 3 * packedRow(columns, format).rowBytes);
      const back = unpackRows(packed, columns, format);
      for (let row = 0; row < 3; row++) {
        for (let start = 0; start < columns; start += GROUP) {
          const group = values.subarray(
            row * columns + start,
            row * columns + Math.min(columns, start + GROUP),
          );
          const step = group.reduce((a, w) => Math.max(a, Math.abs(w)), 0) / PACKED[format].most;
          group.forEach((w, i) => {
            const error = Math.abs(w - back[row * columns + start + i]);
            // half a step, and what rounding the scale to bf16 (2^-9) adds to the largest value
            assert.ok(
              error <= step * (0.5 + PACKED[format].most / 512 + 0.01),
              `${format} ${w} off by ${error}`,
            );
          });
        }
      }
    }
  }
});

Deno.test("packed Gaussian weights have the error that theory gives for groups of 64", () => {
  const values = normalNoise(64 * 3584, "theory");
  const errorOf = (format: PackedFormat) => {
    const back = unpackRows(packRows(values, 3584, format), 3584, format);
    let [error, size] = [0, 0];
    values.forEach((w, i) => {
      error += (w - back[i]) ** 2;
      size += w ** 2;
    });
    return Math.sqrt(error / size);
  };
  assert.ok(errorOf("int8") < 0.007, `int8: ${errorOf("int8")}`);
  assert.ok(errorOf("int4") < 0.11, `int4: ${errorOf("int4")}`);
});

Deno.test("packRows() keeps zeros, and refuses what is not finite", () => {
  for (const format of FORMATS) {
    assert.deepEqual(
      unpackRows(packRows(new Float32Array(70), 70, format), 70, format),
      new Float32Array(70),
    );
    for (const bad of [NaN, Infinity, -Infinity]) {
      assert.throws(
        () => packRows(Float32Array.of(1, bad), 2, format),
        /row 0.*columns 0 to 1 is not finite/,
      );
    }
  }
});
