import assert from "node:assert/strict";
import { Draws } from "../lib/data/draws.ts";
import { bf16ToFloat32, float32ToBf16 } from "../lib/data/half.ts";
import { normalNoise } from "../lib/data/noise.ts";
import {
  GROUP,
  packBf16Rows,
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

/** The formulas of the layout, value by value. */
function packPlainly(values: Float32Array, columns: number, format: PackedFormat): Uint8Array {
  const { groups, scalesAt, rowBytes } = packedRow(columns, format);
  const { most } = PACKED[format];
  const out = new Uint8Array(values.length / columns * rowBytes);
  for (let row = 0; row < values.length / columns; row++) {
    for (let i = 0; i < groups * GROUP; i++) {
      const g = Math.floor(i / GROUP), start = row * columns + g * GROUP;
      const group = values.subarray(start, Math.min((row + 1) * columns, start + GROUP));
      const f32 = new Float32Array([group.reduce((m, w) => Math.max(m, Math.abs(w)), 0) / most]);
      const word = new Uint32Array(f32.buffer);
      word[0] = (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) & 0xffff0000; // nearest bf16, ties to even
      const [scale] = f32;
      const w = i < columns ? values[row * columns + i] : 0;
      const rounded = scale === 0 ? 0 : Math.round(w * (1 / scale));
      const q = Math.max(-most, Math.min(most, rounded));
      const at = row * rowBytes;
      if (format === "int8") out[at + i] = q;
      else out[at + (i >> 1)] |= (q + 8) << (4 * (i % 2));
      out[at + scalesAt + 2 * g] = (word[0] >>> 16) & 255;
      out[at + scalesAt + 2 * g + 1] = word[0] >>> 24;
    }
  }
  return out;
}

Deno.test("packRows() and packBf16Rows() give the bytes of the formulas, ties and tiny numbers too", () => {
  const draws = new Draws("bytes", 1);
  const check = (bits: Uint16Array, columns: number) => {
    const values = bf16ToFloat32(bits);
    for (const format of FORMATS) {
      const want = packPlainly(values, columns, format);
      assert.deepEqual(packRows(values, columns, format), want, `${format} ${columns} f32`);
      assert.deepEqual(packBf16Rows(bits, columns, format), want, `${format} ${columns} bf16`);
    }
  };
  // Of all sizes, of like sizes, and below the smallest normal number.
  for (const [mask, plus] of [[0xffff, 0], [0x83ff, 0x3800], [0x80ff, 0]]) {
    for (const columns of [1, 2, 63, 64, 65, 200]) {
      const draw = () => (draws.bits() & mask) + plus;
      check(
        Uint16Array.from({ length: 3 * columns }, draw).map((b) =>
          (b & 0x7fff) < 0x7f80 ? b : b & 0x807f
        ),
        columns,
      );
    }
  }
  // Half a step of every scale: w · (1 / scale) is 0.5, or just below it.
  for (const most of [7, 127]) {
    const rows = Float32Array.from({ length: 128 * 4 }, (_, i) => {
      const scale = (128 + (i >> 2)) / 128;
      return [most * scale, scale / 2, scale / 2, -scale / 2][i % 4];
    });
    check(float32ToBf16(rows), 4);
  }
});

Deno.test("packRows() writes into given bytes whatever they held, and refuses other lengths", () => {
  const values = normalNoise(2 * 70, "into");
  for (const format of FORMATS) {
    const want = packRows(values, 70, format);
    assert.deepEqual(packRows(values, 70, format, new Uint8Array(want.length).fill(0xab)), want);
    assert.throws(() => packRows(values, 70, format, new Uint8Array(3)), TypeError);
    assert.throws(() => packRows(values, 71, format), TypeError);
    assert.throws(() => unpackRows(want.subarray(1), 70, format), TypeError);
  }
});
