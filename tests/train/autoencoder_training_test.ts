import assert from "node:assert/strict";
import { backward, noGrad } from "../../lib/autograd.ts";
import type { AutoencoderConfig } from "../../lib/model/autoencoder.ts";
import { initAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { clipScale, sumSquares } from "../../lib/ops/global_norm.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import {
  autoencoderLoss,
  type AutoencoderObjective,
  gaussianKl,
  LatentStatistics,
  psnr,
} from "../../lib/train/autoencoder_training.ts";
import { assertClose, checkOp, FORWARD, GPU_TEST, normals, testGpu, uniform } from "../helpers.ts";

const SMALL: AutoencoderConfig = {
  resolution: 8,
  inChannels: 3,
  downsample: 2,
  ch: 32,
  outCh: 3,
  chMult: [1, 1],
  numResBlocks: 1,
  zChannels: 4,
  scaleFactor: 0.7,
  shiftFactor: 0.2,
};
const SHAPE = [2, 3, 8, 8];
const LATENTS = [2, 4, 4, 4];

Deno.test("gaussianKl() matches the reference and is 0 at N(0, 1)", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 257]) {
    await checkOp(gpu, {
      name: `gaussianKl ${n}`,
      inputs: [{ name: "mu", shape: [n] }, { name: "logvar", shape: [n] }],
      op: ([mu, logvar]) => gaussianKl(mu, logvar),
      reference: ([mu, logvar]) => [
        mu.reduce((sum, m, i) => sum + (m * m + Math.exp(logvar[i]) - 1 - logvar[i]) / 2, 0) / n,
      ],
    });
  }
  const zero = Tensor.zeros(gpu, [5]);
  assert.equal((await gaussianKl(zero, zero).floats())[0], 0);
});

for (const reconstruction of ["mse", "l1"] as const) {
  Deno.test(
    `autoencoderLoss() with ${reconstruction} is what its halves give, in f64`,
    GPU_TEST,
    async () => {
      const gpu = await testGpu();
      const model = initAutoencoder(gpu, SMALL, 1);
      const objective: AutoencoderObjective = { reconstruction, klWeight: 0.3 };
      const images = Tensor.from(gpu, normals(384, 2, 0.5), SHAPE).keep();
      const noise = Tensor.from(gpu, normals(128, 3), LATENTS).keep();
      const got = noGrad(() => tidy(() => autoencoderLoss(model, images, noise, objective)));
      const [total, apart, kl] = await readAll([got.total, got.reconstruction, got.kl]);
      const halves = noGrad(() =>
        tidy(() => {
          const { mean, logvar } = model.encodeMoments(images);
          return [mean, logvar, model.decode(model.encode(images, noise))];
        })
      );
      const [mean, logvar, decoded] = await readAll(halves);
      const pixels = await images.floats();
      let error = 0;
      pixels.forEach((x, i) => {
        const d = decoded[i] - x;
        error += (reconstruction === "l1" ? Math.abs(d) : d * d) / pixels.length;
      });
      let divergence = 0;
      mean.forEach((m, i) => {
        divergence += (m * m + Math.exp(logvar[i]) - 1 - logvar[i]) / 2 / mean.length;
      });
      assertClose(apart, [error], FORWARD, "reconstruction");
      assertClose(kl, [divergence], FORWARD, "kl");
      assertClose(total, [error + 0.3 * divergence], FORWARD, "total");
      for (const t of [images, noise, ...halves, ...Object.values(got)]) t.dispose();
      model.dispose();
    },
  );
}

Deno.test("gradients of autoencoderLoss() match differences of it", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = initAutoencoder(gpu, SMALL, 1, { trainable: true });
  const images = Tensor.from(gpu, normals(384, 2, 0.5), SHAPE).keep();
  const noise = Tensor.from(gpu, normals(128, 3), LATENTS).keep();
  const objective: AutoencoderObjective = { reconstruction: "mse", klWeight: 0.3 };
  const loss = () => autoencoderLoss(model, images, noise, objective).total;
  const gradients = tidy(() => backward(loss()));
  assert.equal(gradients.size, [...model.parameters.entries()].length);
  // Along each gradient, where the slope is its norm and far above what f32 rounds.
  for (const name of ["encoder.conv_out.weight", "encoder.conv_out.bias", "decoder.conv_in.bias"]) {
    const weight = model.parameters.get(name);
    const [values, gradient] = [
      await weight.floats(),
      await gradients.get(weight)!.floats(),
    ];
    const norm = Math.hypot(...gradient);
    const step = 5e-3;
    const moved = async (by: number) => {
      weight.write(values.map((v, i) => v + by * gradient[i] / norm));
      const y = noGrad(() => tidy(loss));
      const [value] = await y.floats();
      y.dispose();
      return value;
    };
    const slope = (await moved(step) - await moved(-step)) / (2 * step);
    weight.write(values);
    assertClose([slope], [norm], 1e-2, name);
  }
  for (const t of [images, noise, ...gradients.values()]) t.dispose();
  model.dispose();
});

/** Smooth colour pictures. */
function pictures(): Float32Array {
  const next = uniform(5);
  const out = new Float32Array(384);
  for (let plane = 0; plane < 6; plane++) {
    const [a, b, c] = [next() - 0.5, next() - 0.5, next() - 0.5];
    for (let i = 0; i < 64; i++) {
      out[plane * 64 + i] = c + a * (Math.floor(i / 8) / 4 - 1) + b * (i % 8 / 4 - 1);
    }
  }
  return out;
}

Deno.test("an autoencoder overfits one batch", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = initAutoencoder(gpu, SMALL, 1, { trainable: true });
  const optimizer = new AdamW(model.parameters);
  const pixels = pictures();
  const images = Tensor.from(gpu, pixels, SHAPE).keep();
  const objective: AutoencoderObjective = { reconstruction: "mse", klWeight: 1e-4 };
  const losses: Tensor[] = [];
  for (let step = 0; step < 14; step++) {
    tidy(() => {
      const noise = Tensor.from(gpu, normals(128, 100 + step), LATENTS);
      const { total, reconstruction } = autoencoderLoss(model, images, noise, objective);
      losses.push(reconstruction.keep());
      const collected = optimizer.collect(backward(total));
      const factor = clipScale(sumSquares([...collected.values()].map(({ flat }) => flat)), 1);
      optimizer.step(new Map([...collected].map(([g, v]) => [g, { ...v, factor }])), 4e-3);
    });
  }
  const values = (await readAll(losses)).map(([v]) => v);
  assert.ok(values[13] < 0.25 * values[0], `${values}`);

  // With its own shift and scale, latents have mean 0 and deviation 1, and decode to the same.
  const statistics = new LatentStatistics();
  const moments = noGrad(() => tidy(() => model.encodeMoments(images)));
  const [mean, logvar] = await readAll([moments.mean, moments.logvar]);
  statistics.add(mean.subarray(0, 64), logvar.subarray(0, 64));
  statistics.add(mean.subarray(64), logvar.subarray(64));
  const before = noGrad(() => tidy(() => model.decode(model.encode(images, null))));
  Object.assign(model.config, statistics.factors());
  const noise = Tensor.from(gpu, normals(128, 7), LATENTS);
  const [latents, after] = noGrad(() =>
    tidy(() => [model.encode(images, noise), model.decode(model.encode(images, null))])
  );
  const [z, first, second] = (await readAll([latents, before, after])).map((v) => [...v]);
  const average = z.reduce((a, b) => a + b, 0) / z.length;
  const square = z.reduce((a, b) => a + b * b, 0) / z.length;
  assert.ok(Math.abs(average) < 0.05 && Math.abs(square - 1) < 0.1, `${average}, ${square}`);
  assertClose(second, first, 1e-4, "decoded with other factors");
  const all = [images, noise, latents, before, after, moments.mean, moments.logvar, ...losses];
  for (const t of all) t.dispose();
  optimizer.dispose();
  model.dispose();
});

Deno.test("LatentStatistics gives factors by the moments' law, and refuses what does not vary", () => {
  const statistics = new LatentStatistics();
  statistics.add([1, 3], [Math.log(2), Math.log(4)]);
  // E z = 2, E z² = ((1 + 2) + (9 + 4)) / 2 = 8, variance 4
  const { shiftFactor, scaleFactor } = statistics.factors();
  assertClose([shiftFactor, scaleFactor], [2, 0.5], 1e-12, "factors");
  assert.throws(() => new LatentStatistics().factors(), {
    name: "RangeError",
    message: "Cannot scale latents: 0 numbers have variance NaN",
  });
});

Deno.test("psnr() is 10 log₁₀(4 / mean square), of values held to [-1, 1]", () => {
  assertClose([psnr([0.5, -0.5], [0.7, -0.7])], [10 * Math.log10(4 / 0.04)], 1e-9, "psnr");
  assertClose([psnr([3, 0], [1, 0.2])], [10 * Math.log10(4 / 0.02)], 1e-9, "clamped");
  assert.throws(() => psnr([1], []), { message: "Cannot compare 1 pixel values with 0" });
});
