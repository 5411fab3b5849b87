import assert from "node:assert/strict";
import { fitDenseProbe, fitLinearProbe } from "../../lib/study/probe.ts";
import type { Part } from "../../lib/study/probe_parts.ts";
import { seededRandom } from "../../lib/study/random.ts";
import { gaussian, near, noise } from "./helpers.ts";

/** Labels that are the largest of `classes` planted directions of the features. */
function planted(x: Float32Array, width: number, classes: number, seed: number): Int32Array {
  const directions = noise(classes, width, seed);
  return Int32Array.from({ length: x.length / width }, (_, row) => {
    const score = Array.from({ length: classes }, (_, k) => {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += x[row * width + i] * directions[k * width + i];
      return sum;
    });
    return score.indexOf(Math.max(...score));
  });
}

Deno.test("fitLinearProbe() recovers planted classes and its control stays at chance", () => {
  const x = noise(900, 12, 1);
  const labels = planted(x, 12, 4, 2);
  const probe = fitLinearProbe(x, [900, 12], labels, { classes: 4, seed: 0 });
  assert.ok(probe.accuracy > 0.85, `accuracy ${probe.accuracy}`);
  assert.ok(probe.low < probe.accuracy && probe.accuracy < probe.high);
  assert.ok(probe.control.accuracy < 0.4, `control ${probe.control.accuracy}`);
  assert.deepEqual([probe.n, probe.chance, probe.ridge.length], [900, 0.25, 5]);
  const right = probe.predictions.reduce((sum, k, row) => sum + (k === labels[row] ? 1 : 0), 0);
  near(right / 900, probe.accuracy, 1e-12);
});

Deno.test("fitLinearProbe() on random labels covers chance, also with as many columns as rows", () => {
  const labels = Int32Array.from({ length: 400 }, (_, i) => i % 5);
  for (const width of [8, 400]) {
    const probe = fitLinearProbe(noise(400, width, width), [400, width], labels, {
      classes: 5,
      seed: 1,
      level: 0.999,
    });
    assert.ok(probe.low <= 0.2 && 0.2 <= probe.high, `${width}: [${probe.low}, ${probe.high}]`);
  }
});

Deno.test("fitLinearProbe() is the ridge solution in closed form on one column", () => {
  // One standardised column, two classes: the sign of the covariance decides, the mean is the border.
  const x = Float64Array.of(-3, -1, 1, 3, -3, -1, 1, 3, -2, 2.5, -0.1, 0.1);
  const y = Int32Array.of(0, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 1);
  const fit: Part[] = ["train", "train", "train", "train"];
  const split: Part[] = [...fit, "validation", "validation", "validation", "validation"];
  const probe = fitLinearProbe(x, [12, 1], y, {
    classes: 2,
    seed: 0,
    split: [...split, "test", "test", "test", "test"],
  });
  assert.deepEqual([...probe.predictions], [...new Array(8).fill(-1), 0, 1, 0, 1]);
  assert.equal(probe.accuracy, 1);
  assert.deepEqual(probe.ridge, [1e-4]); // noiseless: the weakest ridge has the least error
  assert.equal(probe.majority, 0.5);
});

Deno.test("fitLinearProbe() does not care for scale, shift, copied or constant columns", () => {
  const x = noise(300, 4, 3);
  const labels = planted(x, 4, 3, 4);
  const base = fitLinearProbe(x, [300, 4], labels, { classes: 3, seed: 2 });
  const odd = new Float64Array(300 * 6);
  for (let row = 0; row < 300; row++) {
    for (let i = 0; i < 4; i++) odd[row * 6 + i] = x[row * 4 + i] * 10 ** (i - 2) + 100 * i;
    odd[row * 6 + 4] = odd[row * 6]; // collinear
    odd[row * 6 + 5] = 42.1; // constant
  }
  const other = fitLinearProbe(odd, [300, 6], labels, { classes: 3, seed: 2 });
  assert.ok(base.accuracy > 0.85);
  near(other.accuracy, base.accuracy, 0.02);
  const scaled = Float64Array.from(x, (value, i) => value * [3, 0.01, 500, 1][i % 4] - 7);
  const same = fitLinearProbe(scaled, [300, 4], labels, { classes: 3, seed: 2 });
  assert.deepEqual(same.predictions, base.predictions);
});

Deno.test("fitLinearProbe() standardises on fitted rows: wild held-out rows do not move the fit", () => {
  const x = noise(120, 3, 6);
  const labels = planted(x, 3, 2, 7);
  const split = Array.from({ length: 120 }, (_, i): Part => {
    return i < 60 ? "train" : i < 90 ? "validation" : "test";
  });
  const options = { classes: 2, seed: 0, split };
  const calm = fitLinearProbe(x, [120, 3], labels, options);
  const wild = x.slice();
  for (let i = 100 * 3; i < 360; i++) wild[i] *= 1e4; // the last 20 test rows
  const other = fitLinearProbe(wild, [120, 3], labels, options);
  assert.deepEqual(other.predictions.slice(90, 100), calm.predictions.slice(90, 100));
  assert.deepEqual(other.ridge, calm.ridge);
});

Deno.test("fitLinearProbe() with groups does not let a patient be recognised across the split", () => {
  // Labels belong to patients at random; features only say which patient it is.
  const patients = 60;
  const code = noise(patients, 20, 8);
  const random = seededRandom(9);
  const group = Int32Array.from({ length: 480 }, (_, row) => row % patients);
  const labelOf = Int32Array.from({ length: patients }, () => random.below(2));
  const labels = group.map((p) => labelOf[p]);
  const x = Float64Array.from({ length: 480 * 20 }, (_, i) => {
    return code[group[Math.floor(i / 20)] * 20 + i % 20] + 0.1 * gaussian(random);
  });
  const leaky = fitLinearProbe(x, [480, 20], labels, { classes: 2, seed: 0 });
  const honest = fitLinearProbe(x, [480, 20], labels, { classes: 2, seed: 0, groups: group });
  assert.ok(leaky.low > 0.6, `leaky ${leaky.accuracy}`);
  assert.ok(honest.low < 0.5 && honest.effectiveN < 200, JSON.stringify(honest.effectiveN));
});

Deno.test("fitDenseProbe() finds planted patches, and its control shows what place alone tells", () => {
  const [images, patches, width] = [120, 16, 10];
  const n = images * patches;
  const x = noise(n, width, 11);
  const random = seededRandom(12);
  const mask = new Uint8Array(n);
  for (let image = 0; image < images; image++) mask[image * patches + random.below(patches)] = 1;
  for (let row = 0; row < n; row++) if (mask[row]) x[row * width + 3] += 2;
  const of = Int32Array.from({ length: n }, (_, row) => Math.floor(row / patches));
  const probe = fitDenseProbe(x, [n, width], mask, { images: of, seed: 0 });
  // One column shifted by 2 standard deviations: the best area is Φ(2/√2) = .921.
  near(probe.auroc.value, 0.921, 0.03);
  assert.ok(probe.auroc.low > 0.87 && probe.auroc.high < 0.97);
  assert.ok(probe.control.low < 0.5 && 0.5 < probe.control.high);
  assert.equal(probe.auroc.groups, images);

  // A mask that is always in the middle and features that hold only the place: all of it survives the shuffle.
  for (let row = 0; row < n; row++) {
    mask[row] = row % patches === 5 || row % patches === 6 ? 1 : 0;
    for (let i = 0; i < width; i++) x[row * width + i] = Math.cos((row % patches) * (i + 1) * 0.7);
  }
  const placed = fitDenseProbe(x, [n, width], mask, { images: of, seed: 0 });
  assert.ok(placed.control.value > 0.95, `control ${placed.control.value}`);
});

Deno.test("fitDenseProbe() on features without information covers one half", () => {
  const n = 800;
  const images = Int32Array.from({ length: n }, (_, row) => row >> 3);
  const mask = Uint8Array.from({ length: n }, (_, row) => row % 8 === (row >> 3) % 8 ? 1 : 0);
  const { auroc } = fitDenseProbe(noise(n, 6, 13), [n, 6], mask, { images, seed: 4, level: 0.999 });
  assert.ok(auroc.low < 0.5 && 0.5 < auroc.high, `[${auroc.low}, ${auroc.high}]`);
  const flat = fitDenseProbe(new Float32Array(n * 6), [n, 6], mask, { images, seed: 4 });
  assert.equal(flat.auroc.value, 0.5);
});

Deno.test("fitLinearProbe() reads 8 sites of (3000, 96) in seconds", () => {
  const x = noise(3000, 96, 14);
  const labels = planted(x, 96, 8, 15);
  const start = performance.now();
  for (let site = 0; site < 8; site++) {
    fitLinearProbe(x, [3000, 96], labels, { classes: 8, seed: site });
  }
  const seconds = (performance.now() - start) / 1000;
  assert.ok(seconds < 6, `${seconds} s`); // 0.9 s; the rest is for a busy machine
});

Deno.test("fitLinearProbe() and fitDenseProbe() name the row, label, part or group at fault", () => {
  const x = noise(12, 2, 16);
  const y = Int32Array.from({ length: 12 }, (_, i) => i % 2);
  const fit = (options: object, labels = y, data: ArrayLike<number> = x) =>
    fitLinearProbe(data, [12, 2], labels, { classes: 2, seed: 0, ...options });
  const spoiled = x.slice();
  spoiled[7] = Infinity;
  const parts = y.map((_, i) => i % 3) as unknown as number[];
  const split = Array.from(parts, (part) => (["train", "validation", "test"] as const)[part]);

  assert.throws(() => fit({}, y, spoiled), /feature 1 of row 3 is Infinity/);
  assert.throws(() => fit({}, y, x.slice(1)), /Cannot fit a probe on \(12, 2\): 23 features/);
  assert.throws(() => fit({}, y.map((v) => v * 2)), /row 1 has label 2, classes are 0 to 1/);
  assert.throws(() => fit({}, y.slice(1)), /11 labels for 12 rows/);
  assert.throws(() => fit({ classes: 1 }), /for 1 classes: at least 2 needed/);
  assert.throws(() => fit({ folds: 2 }), /with 2 folds: train, validation and test need 3/);
  assert.throws(() => fit({ folds: 4, groups: y }), /Cannot make 4 folds of 2 groups/);
  assert.throws(() => fit({ folds: 4, split }), /give folds or a split, not both/);
  assert.throws(() => fit({ split: split.slice(1) }), /11 parts of the split for 12 rows/);
  assert.throws(
    () => fit({ split: y.map(() => 0) && Array(12).fill("train") }),
    /no row in validation/,
  );
  assert.throws(() => fit({ split, groups: y }), /group 0 is in train and in test/);
  assert.throws(() => fit({ ridge: [0] }), /with ridge strengths \[0\]/);
  assert.throws(
    () => fitDenseProbe(x, [12, 2], y.map(() => 0), { images: y.map((_, i) => i), seed: 0 }),
    /Cannot take the AUROC of 0 positives and 12 negatives/,
  );
});
