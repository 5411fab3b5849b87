import assert from "node:assert/strict";
import type { Pixels } from "../../lib/data/transforms.ts";
import { latentSize, PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { decodePixels, encodePixels } from "../../lib/model/latents.ts";
import { picture } from "./small.ts";

type PixelKind = Extract<UniMedVLConfig["latent"], { kind: "pixels" }>;

const withLatent = (change: Partial<PixelKind>): UniMedVLConfig => ({
  ...PRESETS.tiny,
  latent: { ...PRESETS.tiny.latent as PixelKind, ...change },
});
const CONFIG = withLatent({ patchSize: 8, colorSide: 2, scale: 2, colorScale: 6 });

/** f32 sums of the pixels of a colour block. */
const ROUNDING = 2e-6;

function assertSame(got: Pixels, want: Pixels, tolerance: number): void {
  assert.deepEqual([got.height, got.width], [want.height, want.width]);
  const worst = want.data.reduce((w, v, i) => Math.max(w, Math.abs(v - got.data[i])), 0);
  assert.ok(worst <= tolerance, `largest error ${worst}`);
}

function roundTrip(image: Pixels, config: UniMedVLConfig): Pixels {
  const { patchSize } = config.latent as PixelKind;
  const [rows, columns] = [image.height / patchSize, image.width / patchSize];
  const tokens = encodePixels([image], config);
  assert.equal(tokens.length, rows * columns * latentSize(config));
  return decodePixels(tokens, rows, columns, config);
}

/** The colour of each pixel by its place. */
function paint(
  height: number,
  width: number,
  color: (row: number, column: number) => [number, number, number],
): Pixels {
  const data = new Float32Array(3 * height * width);
  for (let at = 0; at < height * width; at++) {
    color(Math.floor(at / width), at % width).forEach((v, c) => data[c * height * width + at] = v);
  }
  return { height, width, data };
}

Deno.test("grey pictures pass through latents whole", () => {
  const { data } = picture(3, 16, 24);
  const grey = paint(16, 24, (row, column) => {
    const v = data[row * 24 + column];
    return [v, v, v];
  });
  assertSame(roundTrip(grey, CONFIG), grey, ROUNDING);
});

Deno.test("colour that is constant in each block passes through latents whole", () => {
  const hue = picture(4, 4, 6); // 16 × 24 pixels have 4 × 6 blocks of 4 × 4
  const at = (plane: number, row: number, column: number) =>
    hue.data[24 * plane + Math.floor(row / 4) * 6 + Math.floor(column / 4)];
  const image = paint(16, 24, (r, c) => [at(0, r, c), at(1, r, c), at(2, r, c)]);
  assertSame(roundTrip(image, CONFIG), image, ROUNDING);
});

Deno.test("a colour block per pixel loses nothing of any picture", () => {
  const image = picture(5, 16, 8);
  assertSame(roundTrip(image, withLatent({ colorSide: 8 })), image, ROUNDING);
  assertSame(roundTrip(image, withLatent({ patchSize: 2, colorSide: 2 })), image, ROUNDING);
});

Deno.test("brightness of each pixel and mean colour of each block survive", () => {
  const soft = picture(6, 16, 16);
  const image = { ...soft, data: soft.data.map((v) => v / 4) }; // far from the clamp
  const back = roundTrip(image, CONFIG);
  const area = 256;
  for (let i = 0; i < area; i++) {
    const sum = ({ data }: Pixels) => data[i] + data[area + i] + data[2 * area + i];
    assert.ok(Math.abs(sum(back) - sum(image)) < 4 * ROUNDING);
  }
  for (let plane = 0; plane < 3; plane++) {
    const mean = ({ data }: Pixels) => {
      let total = 0;
      for (let y = 4; y < 8; y++) {
        for (let x = 8; x < 12; x++) total += data[plane * area + 16 * y + x];
      }
      return total / 16;
    };
    assert.ok(Math.abs(mean(back) - mean(image)) < ROUNDING);
  }
});

Deno.test("a token is scaled brightness row by row, then scaled colour of its blocks", () => {
  const config = withLatent({ patchSize: 2, colorSide: 1, scale: 3, colorScale: 5 });
  const red = paint(2, 4, (row, column) => row === 1 && column === 2 ? [1, 0, 0] : [0, 0, 0]);
  const tokens = encodePixels([red, red], config);
  // Pixel (1, 2) is (1, 0) of the second token: y = 1/3, and of the block u = 1/2 / 4, v = −1/4 / 4.
  const want = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5 / 8, -5 / 16];
  assert.deepEqual([...tokens], [...want, ...want].map(Math.fround));
});

Deno.test("decodePixels() clamps to [-1, 1]", () => {
  const tokens = new Float32Array(latentSize(CONFIG)).fill(0);
  tokens[0] = 9;
  tokens[1] = -9;
  const { data } = decodePixels(tokens, 1, 1, CONFIG);
  assert.deepEqual([data[0], data[1], data[2]], [1, -1, 0]);
});

Deno.test("latents refuse what they cannot hold", () => {
  assert.throws(() => encodePixels([picture(1, 16, 12)], CONFIG), {
    name: "TypeError",
    message: "Cannot take a 16x12 image as latents: sides must divide by 8",
  });
  assert.throws(() => decodePixels(new Float32Array(71), 1, 1, CONFIG), {
    name: "TypeError",
    message: "Cannot decode 71 values as 1 × 1 tokens",
  });
  for (
    const call of [
      () => encodePixels([], PRESETS["unimedvl-14b"]),
      () => decodePixels(new Float32Array(0), 0, 0, PRESETS["unimedvl-14b"]),
    ]
  ) {
    assert.throws(call, {
      name: "TypeError",
      message: "Cannot take pixels as latents: this model's latents come from an autoencoder",
    });
  }
});
