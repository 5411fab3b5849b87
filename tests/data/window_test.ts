import assert from "node:assert/strict";
import {
  applyWindow,
  parseWindow,
  percentileWindow,
  WINDOW_PRESETS,
} from "../../lib/data/window.ts";
import { UsageError } from "../../lib/errors.ts";

Deno.test("parseWindow() knows presets, center/width, auto and full, and refuses the rest", () => {
  assert.deepEqual(parseWindow(" Lung "), {
    kind: "given",
    window: { center: -600, width: 1500 },
    preset: "lung",
  });
  assert.deepEqual(parseWindow("-600/1500"), parseWindow({ center: -600, width: 1500 }));
  assert.deepEqual(parseWindow("+0.5 / 0.25"), parseWindow({ center: 0.5, width: 0.25 }));
  assert.deepEqual([parseWindow("AUTO"), parseWindow("full")], [{ kind: "auto" }, {
    kind: "full",
  }]);
  for (const { center, width } of Object.values(WINDOW_PRESETS)) {
    assert.deepEqual(parseWindow(`${center}/${width}`), parseWindow({ center, width }));
  }
  const bad = ["", "lungs", "40", "40/", "40/-1", "40/0", "1e9/2", "toString", "40/400/1"];
  for (const text of bad) assert.throws(() => parseWindow(text), UsageError, text);
  assert.throws(() => parseWindow({ center: NaN, width: 1 }), UsageError);
  assert.throws(() => parseWindow({ center: 0, width: -1 }), UsageError);
});

Deno.test("percentileWindow() leaves half a percent out at either end, and what is no number", () => {
  const scale = { slope: 1, intercept: 0 };
  const ramp = Float64Array.from({ length: 1001 }, (_, i) => i);
  assert.deepEqual(percentileWindow(ramp, scale), { center: 500, width: 990 });
  assert.deepEqual(percentileWindow(ramp, { slope: -2, intercept: 10 }), {
    center: -990,
    width: 1980,
  });
  const odd = Float64Array.from([NaN, Infinity, ...ramp, -Infinity, 1e9]);
  assert.deepEqual(percentileWindow(odd, scale, 1e9), { center: 500, width: 990 });
  // Nearly all equal: all values count.
  const rare = new Float64Array(1001);
  rare[7] = 50;
  assert.deepEqual(percentileWindow(rare, scale), { center: 25, width: 50 });
  assert.equal(percentileWindow(new Float64Array(9), scale), undefined);
  assert.equal(percentileWindow([], scale), undefined);
  const many = Uint16Array.from({ length: 1_500_000 }, (_, i) => i % 1001);
  assert.ok(Math.abs(percentileWindow(many, scale)!.width - 990) <= 2);
});

Deno.test("applyWindow() ends at the window, also where it is narrower than one value", () => {
  const scale = { slope: 2, intercept: -10 };
  const values = [0, 5, 10, NaN, Infinity, -Infinity];
  const window = { center: 0, width: 20 };
  assert.deepEqual([...applyWindow(values, scale, window)], [0, 128, 255, 0, 255, 0]);
  assert.deepEqual(
    [...applyWindow(values, scale, window, "LINEAR_EXACT", true)],
    [255, 127, 0, 255, 0, 255],
  );
  // A width of 1 is a step at center - 1/2.
  const same = { slope: 1, intercept: 0 };
  const step = [...applyWindow([4, 5, 6], same, { center: 5.5, width: 1 }, "LINEAR")];
  assert.deepEqual(step, [0, 0, 255]);
});
