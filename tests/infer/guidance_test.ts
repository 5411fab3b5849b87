import assert from "node:assert/strict";
import {
  type FullGuidance,
  fullGuidance,
  type Guidance,
  guide,
  guidedAt,
} from "../../lib/infer/guidance.ts";
import { timeGrid } from "../../lib/infer/flow.ts";
import { normals } from "../helpers.ts";

const WIDTH = 5, TOKENS = 3;
const [v, u, c] = [1, 2, 3].map((seed) => normals(TOKENS * WIDTH, seed));

const norm = (x: ArrayLike<number>) => Math.sqrt(Array.from(x).reduce((s, a) => s + a * a, 0));
const rowsOf = (x: ArrayLike<number>) =>
  Array.from({ length: TOKENS }, (_, r) => Array.from(x).slice(r * WIDTH, (r + 1) * WIDTH));

/** The formulas of reference-model §6.3, written out row by row. */
function expected(
  { textGuidance: a, imageGuidance: b, renorm, renormMin }: FullGuidance,
): number[] {
  const clamp = (r: number) => Math.min(1, Math.max(renormMin, r));
  const g = Array.from(v, (x, i) => u[i] + a * (x - u[i]));
  const toImage = (x: number[], at = 0) =>
    b > 1 ? x.map((y, i) => c[at + i] + b * (y - c[at + i])) : x;
  if (renorm === "text_channel") {
    return rowsOf(g).flatMap((row, r) => {
      const factor = clamp(norm(rowsOf(v)[r]) / (norm(row) + 1e-8));
      return toImage(row.map((x) => x * factor), r * WIDTH);
    });
  }
  const y = toImage(g);
  if (renorm === "global") return y.map((x) => x * clamp(norm(v) / (norm(y) + 1e-8)));
  return rowsOf(y).flatMap((row, r) => {
    const factor = clamp(norm(rowsOf(v)[r]) / (norm(row) + 1e-8));
    return row.map((x) => x * factor);
  });
}

Deno.test("guide() follows the reference's formulas for every renormalization", () => {
  for (const renorm of ["global", "channel", "text_channel"] as const) {
    for (const imageGuidance of [1, 2]) {
      for (const renormMin of [0, 0.65, 1]) {
        const options = fullGuidance({ textGuidance: 4, imageGuidance, renorm, renormMin });
        const got = guide(v, u, c, WIDTH, options);
        const want = expected(options);
        want.forEach((w, i) =>
          assert.ok(Math.abs(got[i] - w) < 1e-5, `${renorm} ${imageGuidance} ${renormMin}`)
        );
      }
    }
  }
});

Deno.test("guide() with renormMin 1 is plain guidance, and with a text scale of at most 1 nothing", () => {
  const off = guide(v, u, undefined, WIDTH, fullGuidance({ textGuidance: 3, renormMin: 1 }));
  off.forEach((y, i) => assert.ok(Math.abs(y - (u[i] + 3 * (v[i] - u[i]))) < 1e-5));
  for (const textGuidance of [0, 0.5, 1]) {
    assert.equal(guide(v, u, c, WIDTH, fullGuidance({ textGuidance, imageGuidance: 2 })), v);
  }
});

Deno.test("guidance acts above the lower bound and up to the upper one, in f32", () => {
  const options = fullGuidance({ interval: [0.5, 0.75] });
  assert.deepEqual([1, 0.75, 0.6, 0.5, 0.25].map((t) => guidedAt(t, options)), [
    false,
    true,
    true,
    false,
    false,
  ]);
  const shifted = timeGrid(50, 3).filter((t) => guidedAt(t, fullGuidance({ interval: [0.4, 1] })));
  assert.equal(shifted.length, 41, "of the reference's 49 steps with shift 3");
  assert.ok(
    guidedAt(Math.fround(0.6), fullGuidance({ interval: [0.1, 0.6] })),
    "0.6 is below f32(0.6)",
  );
});

Deno.test("fullGuidance() has the reference's defaults and names what it refuses", () => {
  assert.deepEqual(fullGuidance({}), {
    textGuidance: 4,
    imageGuidance: 1.5,
    interval: [0.4, 1],
    renorm: "global",
    renormMin: 0,
  });
  const refused: [Guidance, string, RegExp][] = [
    [
      { renorm: "local" as "global" },
      'Cannot guide with renorm "local"',
      /global, channel, text_channel/,
    ],
    [{ textGuidance: NaN }, "Cannot guide with textGuidance NaN", /4 is usual/],
    [{ imageGuidance: -1 }, "Cannot guide with imageGuidance -1", /1.5 to 2/],
    [{ interval: [0.8, 0.2] }, "Cannot guide with the interval 0.8 to 0.2", /0 ≤ low ≤ high ≤ 1/],
    [{ renormMin: 2 }, "Cannot guide with renormMin 2", /from 0 to 1/],
  ];
  for (const [options, message, help] of refused) {
    assert.throws(() => fullGuidance(options), (error: Error & { help: string }) => {
      assert.equal(error.name, "UsageError");
      assert.equal(error.message, message);
      assert.match(error.help, help);
      return true;
    });
  }
});
