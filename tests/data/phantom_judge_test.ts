import assert from "node:assert/strict";
import { blocky, blurred, noisy } from "../../lib/data/phantoms/damage.ts";
import { fitDiscriminant } from "../../lib/data/phantoms/discriminant.ts";
import { Draws } from "../../lib/data/draws.ts";
import { MODALITIES } from "../../lib/data/phantoms/factors.ts";
import { confusion, fitJudge, fitShapeJudge } from "../../lib/data/phantoms/judge.ts";
import { phantom } from "../../lib/data/phantoms/phantom.ts";

const heldOut = Array.from({ length: 500 }, (_, i) => phantom(0, "test", i));
const draws = new Draws("judge test");

/** What a generated picture may suffer, and the accuracy the judges must keep on it. */
const DAMAGES: Record<
  string,
  [(x: Float32Array) => Float32Array, modality: number, shape: number]
> = {
  none: [(x) => x, 0.99, 0.97],
  blur: [(x) => blurred(x, 1.5), 0.99, 0.95],
  noise: [(x) => noisy(x, 0.2, draws), 0.99, 0.95],
  "noise .4": [(x) => noisy(x, 0.4, draws), 0.99, 0.92],
  tiles: [(x) => blocky(x, 4), 0.99, 0.92],
  blocks: [(x) => blocky(x, 8), 0.96, 0.6],
  pale: [(x) => x.map((value) => 0.7 * value), 0.99, 0.97],
};

Deno.test("fitJudge() reads the modality of held-out phantoms, damaged ones too", () => {
  const judge = fitJudge();
  for (const [name, [damage, least]] of Object.entries(DAMAGES)) {
    const table = confusion(
      heldOut.map((p) => {
        const { label } = judge.modality(damage(p.image));
        return [MODALITIES.indexOf(p.factors.modality), MODALITIES.indexOf(label)] as const;
      }),
      MODALITIES.length,
    );
    const right = table.reduce((sum, row, k) => sum + row[k], 0) / heldOut.length;
    const rows = table.map((row, k) => `${MODALITIES[k]} ${row}`).join("\n");
    assert.ok(right >= least, `${name}: ${right}, expected ${least} or more\n${rows}`);
  }
});

Deno.test("fitJudge() gives log posteriors, whatever it is shown", () => {
  const judge = fitJudge({ examples: 320 });
  const pictures = [
    heldOut[0].image,
    new Float32Array(3072),
    noisy(new Float32Array(3072), 9, draws),
  ];
  for (const image of pictures) {
    const { label, scores } = judge.modality(image);
    const total = Object.values(scores).reduce((sum, score) => sum + Math.exp(score), 0);
    assert.ok(Math.abs(total - 1) < 1e-9);
    assert.equal(scores[label], Math.max(...Object.values(scores)));
  }
  assert.throws(() => judge.modality(new Float32Array(100)), /Cannot judge an image of/);
  assert.throws(() => fitJudge({ examples: 8 }), /Cannot fit a judge on 8 phantoms/);
});

Deno.test("fitJudge() reads grey and disguised phantoms of another size", () => {
  const options = { size: 48, grey: true, disguise: 0.5 };
  const judge = fitJudge({ phantoms: options });
  let right = 0;
  for (let i = 0; i < 200; i++) {
    const p = phantom(0, "test", i, options);
    if (judge.modality(p.image).label === p.factors.modality) right++;
  }
  assert.ok(right >= 194, `${right} of 200`);
});

Deno.test("fitShapeJudge() reads the organ's shape", () => {
  const judge = fitShapeJudge();
  for (const [name, [damage, , least]] of Object.entries(DAMAGES)) {
    const right = heldOut.filter((p) => {
      return judge.shape(damage(p.image), p.factors.modality).label === p.factors.shape;
    }).length / heldOut.length;
    assert.ok(right >= least, `${name}: ${right}, expected ${least} or more`);
  }
});

Deno.test("fitDiscriminant() finds the border between two Gaussians of known place", () => {
  // Unit covariance, centres (±1, 0), equal priors: the log odds at (x, y) are 2x.
  const sample = new Draws("gaussians");
  const labels = Array.from({ length: 20_000 }, (_, n) => n % 2);
  const points = labels.map((k) => {
    return Float64Array.of(2 * k - 1 + sample.normal(), sample.normal());
  });
  const discriminant = fitDiscriminant(points, labels, 2, 1e-6);
  for (const [x, y] of [[0, 0], [1, 3], [-2, 1]]) {
    const [a, b] = discriminant(Float64Array.of(x, y));
    assert.ok(Math.abs(b - a - 2 * x) < 0.15, `log odds ${b - a} at (${x}, ${y})`);
  }
  assert.throws(() => fitDiscriminant(points, labels, 3, 0.1), /class 2 has no example/);
});

Deno.test("blurred(), noisy() and blocky() do what their names say", () => {
  const flat = new Float32Array(16 * 16 * 3).fill(0.5);
  assert.ok(blurred(flat, 2).every((x) => Math.abs(x - 0.5) < 1e-6));
  assert.deepEqual(blocky(flat, 8), flat);
  const point = new Float32Array(17 * 17 * 3);
  point[3 * (8 * 17 + 8)] = 1;
  const spread = blurred(point, 1);
  assert.ok(Math.abs(spread.reduce((a, b) => a + b) - 1) < 1e-6);
  assert.ok(Math.abs(spread[3 * (8 * 17 + 8)] - 1 / (2 * Math.PI)) < 2e-3);
  const ramp = Float32Array.from({ length: 16 * 16 * 3 }, (_, i) => Math.floor(i / 3) % 16);
  assert.deepEqual([...blocky(ramp, 8).filter((_, i) => i % 24 === 0).slice(0, 2)], [3.5, 11.5]);
});
