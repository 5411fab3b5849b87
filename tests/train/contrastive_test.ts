import assert from "node:assert/strict";
import { backward } from "../../lib/autograd.ts";
import type { VisionConfig } from "../../lib/model/config.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { sizeOf, Tensor, tidy } from "../../lib/tensor.ts";
import {
  contrastiveShapes,
  imageDirections,
  initContrastive,
  recallAtOne,
  sigmoidPairLoss,
  textDirections,
} from "../../lib/train/contrastive.ts";
import { assertClose, checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import type { Gpu } from "../../lib/gpu/device.ts";

/** The loss in f64, as the paper writes it. */
function pairLoss(
  [x, y, logScale, bias]: Float64Array[],
  b: number,
  together: (i: number, j: number) => boolean,
): number[] {
  const width = x.length / b;
  let sum = 0;
  for (let i = 0; i < b; i++) {
    for (let j = 0; j < b; j++) {
      let dot = 0;
      for (let c = 0; c < width; c++) dot += x[i * width + c] * y[j * width + c];
      const logit = Math.exp(logScale[0]) * dot + bias[0];
      const sign = together(i, j) ? 1 : -1;
      sum -= Math.log(1 / (1 + Math.exp(-sign * logit)));
    }
  }
  return [sum / b];
}

for (const keys of [undefined, ["a", "b", "a", "c", "b", "d", "e"]]) {
  Deno.test(
    `sigmoidPairLoss() matches the reference${keys ? ", texts that occur twice" : ""}`,
    GPU_TEST,
    async () => {
      const [b, width] = [7, 5];
      await checkOp(await testGpu(), {
        name: "sigmoidPairLoss",
        inputs: [
          { name: "x", shape: [b, width], data: normals(b * width, 1, 0.4) },
          { name: "y", shape: [b, width], data: normals(b * width, 2, 0.4) },
          { name: "logScale", shape: [1, 1], data: Float32Array.of(0.7) },
          { name: "bias", shape: [1], data: Float32Array.of(-1.5) },
        ],
        op: ([x, y, logScale, bias]) => sigmoidPairLoss(x, y, { logScale, bias }, keys),
        reference: (inputs) => pairLoss(inputs, b, (i, j) => keys ? keys[i] === keys[j] : i === j),
      });
    },
  );
}

Deno.test("sigmoidPairLoss() refuses what cannot be paired", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, y, one] = [[2, 3], [3, 3], [1, 1]].map((shape) => Tensor.zeros(gpu, shape));
  const at = { logScale: one, bias: Tensor.zeros(gpu, [1]) };
  assert.throws(() => sigmoidPairLoss(x, y, at), {
    name: "TypeError",
    message: "Cannot pair (2, 3) with (3, 3)",
  });
  assert.throws(() => sigmoidPairLoss(x, x, at, ["one"]), {
    message: "Cannot pair (2, 3) with (2, 3) by 1 keys",
  });
});

const VISION: VisionConfig = { ...PRESETS.tiny.vision, hiddenSize: 16, intermediateSize: 24 };
const SIZES = { width: 6, vocabSize: 11 };

/** Both towers with drawn weights. */
function towers(gpu: Gpu): Parameters {
  const parameters = new Parameters();
  for (const [name, shape] of parameterShapes({ ...PRESETS.tiny, vision: VISION })) {
    if (!name.startsWith("vit.")) continue;
    parameters.add(name, Tensor.from(gpu, normals(sizeOf(shape), name.length, 0.2), shape));
  }
  initContrastive(gpu, SIZES, VISION, 3, parameters);
  return parameters;
}

const image = (seed: number, height: number, width: number) => {
  return { height, width, data: normals(3 * height * width, seed, 0.5) };
};

Deno.test(
  "directions have unit length, and those of an image do not depend on its neighbours",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const parameters = towers(gpu);
    const images = [image(1, 16, 24), image(2, 8, 8), image(3, 32, 32)];
    const together = await tidy(() => imageDirections(gpu, images, parameters, VISION)).floats();
    assert.equal(together.length, 3 * SIZES.width);
    for (let i = 0; i < 3; i++) {
      const own = together.subarray(i * SIZES.width, (i + 1) * SIZES.width);
      assertClose([Math.hypot(...own)], [1], 1e-5, `length of ${i}`);
      const alone = await tidy(() => imageDirections(gpu, [images[i]], parameters, VISION))
        .floats();
      assertClose(own, alone, 1e-5, `image ${i} by itself`);
    }
    parameters.dispose();
  },
);

Deno.test("every patch of an image sees every other, whatever their order", GPU_TEST, async () => {
  const gpu = await testGpu();
  const parameters = towers(gpu);
  const { data } = image(1, 8, 16);
  const direction = (pixels: Float32Array) =>
    tidy(() => imageDirections(gpu, [{ height: 8, width: 16, data: pixels }], parameters, VISION))
      .floats();
  const before = await direction(data);
  // The left and the right patch change places, and so do their rows of the position table.
  const swapped = data.map((_, i) => data[i % 16 < 8 ? i + 8 : i - 8]);
  const table = parameters.get("vit.embed.position.weight");
  const rows = await table.floats();
  const C = VISION.hiddenSize;
  table.write(rows.map((v, i) => i < C ? rows[i + C] : i < 2 * C ? rows[i - C] : v));
  assertClose(await direction(swapped), before, 1e-5, "in the other order");
  const other = await direction(data);
  assert.ok(other.some((v, i) => Math.abs(v - before[i]) > 1e-4), "positions matter");
  parameters.dispose();
});

Deno.test(
  "directions of texts ignore word order, and empty texts are refused",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const parameters = towers(gpu);
    const directions = (texts: number[][]) =>
      tidy(() => textDirections(gpu, texts, parameters)).floats();
    const [ab, ba, c] = [[6, 7, 8], [8, 6, 7], [9]];
    const all = await directions([ab, ba, c]);
    const { width } = SIZES;
    assertClose(all.subarray(0, width), all.subarray(width, 2 * width), 1e-5, "other order");
    assertClose(all.subarray(2 * width), await directions([c]), 1e-5, "by itself");
    const [once, twice] = [await directions([ab]), await directions([[...ab, ...ba]])];
    assertClose(twice, once, 1e-5, "the mean of words said twice");
    assert.ok(Math.abs(all[0] - all[2 * width]) > 1e-3, "other words, other direction");
    assert.throws(() => textDirections(gpu, [[6], []], parameters), {
      name: "RangeError",
      message: "Cannot point text 1 anywhere: it has no words",
    });
    parameters.dispose();
  },
);

Deno.test("the pair loss reaches every weight of both towers", GPU_TEST, async () => {
  const gpu = await testGpu();
  const parameters = towers(gpu);
  const gradients = tidy(() =>
    backward(sigmoidPairLoss(
      imageDirections(gpu, [image(1, 8, 8), image(2, 16, 8)], parameters, VISION),
      textDirections(gpu, [[6, 7], [8]], parameters),
      { logScale: parameters.get("contrast.scale"), bias: parameters.get("contrast.bias") },
    ))
  );
  for (const [name, tensor] of parameters.entries()) {
    const gradient = await gradients.get(tensor)?.floats();
    assert.ok(gradient && gradient.every(Number.isFinite), `${name} has no finite gradient`);
    if (name.endsWith("attn.k.bias")) continue; // shifts all scores of a query alike
    assert.ok(gradient.some((v) => v !== 0), `the gradient of ${name} is 0`);
  }
  for (const gradient of gradients.values()) gradient.dispose();
  parameters.dispose();
});

Deno.test(
  "initContrastive() draws by name and begins at scale 10 and bias -10",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [a, b] = [towers(gpu), towers(gpu)];
    for (const [name, shape] of contrastiveShapes(SIZES, VISION)) {
      assert.deepEqual(a.get(name).shape, shape);
      assert.deepEqual(await a.get(name).floats(), await b.get(name).floats(), name);
    }
    assertClose(await a.get("contrast.scale").floats(), [Math.log(10)], 1e-6, "scale");
    assertClose(await a.get("contrast.bias").floats(), [-10], 1e-6, "bias");
    a.dispose();
    b.dispose();
  },
);

Deno.test("recallAtOne() counts who finds its partner, each way", () => {
  const x = Float32Array.of(1, 0, 0, 1, 0.6, 0.8);
  const y = Float32Array.of(1, 0, 0.8, 0.6, 0, 1);
  // Image 1 prefers text 2; text 1 prefers image 2, text 2 image 1.
  assert.deepEqual(recallAtOne(x, y, 3), {
    imageToText: 1 / 3,
    textToImage: 1 / 3,
    chance: 1 / 3,
  });
  assert.deepEqual(recallAtOne(x, x, 3), { imageToText: 1, textToImage: 1, chance: 1 / 3 });
  assert.throws(() => recallAtOne(x, y, 4), {
    message: "Cannot compare 6 numbers with 6 as 4 directions",
  });
});
