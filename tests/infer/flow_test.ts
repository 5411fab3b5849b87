import assert from "node:assert/strict";
import type { Sample } from "../../lib/data/sample.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { drawImages, timeGrid } from "../../lib/infer/flow.ts";
import { initModel } from "../../lib/model/init.ts";
import { encodePixels } from "../../lib/model/latents.ts";
import { normalNoise } from "../../lib/data/noise.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import {
  clean,
  drawn,
  EDIT,
  PACK,
  picture,
  QUESTION,
  sameBits,
  SMALL,
  smallModel,
  text,
  TO_IMAGE,
} from "../model/small.ts";

Deno.test("timeGrid() gives the reference's grid of 50 points with shift 3", () => {
  const grid = timeGrid(50, 3);
  assert.equal(grid.length, 50);
  assert.deepEqual(grid.slice(0, 4).map((t) => t.toFixed(4)), [
    "1.0000",
    "0.9931",
    "0.9860",
    "0.9787",
  ]);
  assert.equal(grid[48].toFixed(4), "0.0588");
  assert.equal(grid[49], 0);
  assert.deepEqual(timeGrid(3, 1), [1, 0.5, 0]);
});

Deno.test("timeGrid() refuses fewer than two points", () => {
  for (const points of [1, 0, NaN]) {
    assert.throws(() => timeGrid(points, 1), {
      name: "RangeError",
      message: `Cannot make a time grid of ${points} points`,
    });
  }
});

const furthest = (a: Pixels, b: Pixels) => {
  assert.deepEqual([a.height, a.width], [b.height, b.width]);
  return a.data.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b.data[i])), 0);
};

Deno.test("drawImages() draws the same picture from the same seed", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const live = model.gpu.buffers.liveCount;
  const draw = async (seed: number) =>
    (await drawImages(model, [EDIT], PACK, { points: 6, seed }))[0];
  const [first, again, other] = [await draw(3), await draw(3), await draw(4)];
  assert.deepEqual([first.height, first.width], [16, 16]);
  assert.ok(sameBits(again.data, first.data));
  assert.ok(furthest(other, first) > 0.05);
  assert.ok(first.data.every((v) => v >= -1 && v <= 1));
  assert.equal(model.gpu.buffers.liveCount, live);
  model.dispose();
});

Deno.test("drawImages() draws a picture alike in any company after it", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const wide: Sample = { plan: [text(1), drawn(picture(1, 8, 16))] };
  const [alone] = await drawImages(model, [EDIT], PACK, { points: 6 });
  const three = await drawImages(model, [EDIT, wide, TO_IMAGE], PACK, { points: 6 });
  assert.deepEqual(three.map(({ height, width }) => [height, width]), [[16, 16], [8, 16], [
    16,
    16,
  ]]);
  assert.ok(furthest(three[0], alone) < 1e-4, `${furthest(three[0], alone)}`);
  model.dispose();
});

Deno.test(
  "drawImages() does not look at the pixels it draws over, but at its conditions",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const draw = async (condition: number, target: number) => {
      const plan = [clean(picture(condition)), text(1), drawn(picture(target))];
      return (await drawImages(model, [{ plan }], PACK, { points: 6 }))[0];
    };
    const first = await draw(1, 2);
    assert.ok(sameBits((await draw(1, 9)).data, first.data));
    assert.ok(!sameBits((await draw(8, 2)).data, first.data));
    model.dispose();
  },
);

Deno.test(
  "drawImages() with a velocity of zero gives its noise back, of the same key",
  GPU_TEST,
  async () => {
    const model = initModel(await testGpu(), SMALL, 1); // a fresh flow head is zero
    const [image] = await drawImages(model, [TO_IMAGE], PACK, { points: 3, seed: 5 });
    const tokens = encodePixels([image], SMALL);
    const noise = normalNoise(tokens.length, "draw", 5);
    // Where no colour was clamped the picture's tokens are the noise.
    let compared = 0;
    for (let token = 0; token < 16; token++) {
      const pixels = Array.from({ length: 16 }, (_, i) => {
        const [row, column] = [
          4 * Math.floor(token / 4) + Math.floor(i / 4),
          4 * (token % 4) + i % 4,
        ];
        return 16 * row + column;
      });
      const values = pixels.flatMap((at) => [0, 256, 512].map((plane) => image.data[plane + at]));
      if (values.some((v) => Math.abs(v) === 1)) continue;
      compared++;
      for (let c = 0; c < 18; c++) {
        assert.ok(Math.abs(tokens[18 * token + c] - noise[18 * token + c]) < 1e-5);
      }
    }
    assert.ok(compared > 0, "some token is not clamped");
    model.dispose();
  },
);

Deno.test(
  "drawImages() refuses samples that do not predict one image, and stops when told",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    await assert.rejects(drawImages(model, [TO_IMAGE, QUESTION], PACK), {
      name: "TypeError",
      message: "Cannot draw sample 1: it predicts 0 images",
    });
    const two: Sample = { plan: [drawn(picture(1)), drawn(picture(2))] };
    await assert.rejects(drawImages(model, [two], PACK), {
      message: "Cannot draw sample 0: it predicts 2 images",
    });
    await assert.rejects(
      drawImages(model, [TO_IMAGE], PACK, { signal: AbortSignal.abort() }),
      { name: "AbortError" },
    );
    assert.deepEqual(await drawImages(model, [], PACK), []);
    model.dispose();
  },
);
