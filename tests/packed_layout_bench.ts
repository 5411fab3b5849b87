// How fast weights are packed and unpacked on one core: `deno bench --allow-read tests/packed_layout_bench.ts`.
// A block of 14.7 million values, 4096 rows of the published model's width.

import { float32ToBf16 } from "../lib/data/half.ts";
import { normalNoise } from "../lib/data/noise.ts";
import { packBf16Rows, packedRow, packRows, unpackRows } from "../lib/packed_layout.ts";

const [ROWS, COLUMNS] = [4096, 3584];
const part = normalNoise(256 * COLUMNS, "bench").map((v) => 0.02 * v);
const values = new Float32Array(ROWS * COLUMNS);
for (let at = 0; at < values.length; at += part.length) values.set(part, at);
const bits = float32ToBf16(values);
const millions = (values.length / 1e6).toFixed(1);

for (const format of ["int8", "int4"] as const) {
  const out = new Uint8Array(ROWS * packedRow(COLUMNS, format).rowBytes);
  const group = `${format}, ${millions} million values`;
  Deno.bench(`${format} from bf16`, { group }, () => void packBf16Rows(bits, COLUMNS, format, out));
  Deno.bench(`${format} from f32`, { group }, () => void packRows(values, COLUMNS, format, out));
  Deno.bench(`${format} to f32`, { group }, () => void unpackRows(out, COLUMNS, format));
}
