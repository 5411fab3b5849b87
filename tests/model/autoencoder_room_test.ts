import assert from "node:assert/strict";
import { noGrad } from "../../lib/autograd.ts";
import { Gpu } from "../../lib/gpu/device.ts";
import { Autoencoder, type AutoencoderConfig } from "../../lib/model/autoencoder.ts";
import { passCosts } from "../../lib/model/autoencoder_costs.ts";
import { passSteps } from "../../lib/model/autoencoder_pass.ts";
import { stagesOf } from "../../lib/model/autoencoder_stages.ts";
import { initAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { FLUX_AUTOENCODER } from "../../lib/model/config.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { toChannelsFirst, toChannelsLast } from "../../lib/ops/channels.ts";
import { Held } from "../../lib/ops/steps.ts";
import { sizeOf, Tensor } from "../../lib/tensor.ts";
import { narrowGpu } from "../ops/variants.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";

const SMALL: AutoencoderConfig = {
  resolution: 32,
  inChannels: 3,
  downsample: 2,
  ch: 32,
  outCh: 3,
  chMult: [1, 2],
  numResBlocks: 1,
  zChannels: 4,
  scaleFactor: 0.3611,
  shiftFactor: 0.1159,
};

const IMAGES = [2, 3, 37, 46];
const LATENTS = [2, 4, 19, 23];

/** The test device with another memory budget. */
async function budgetGpu(budgetBytes: number): Promise<Gpu> {
  const { device, adapter, subgroupSize, subgroupLine } = await testGpu();
  return new Gpu(device, adapter, subgroupSize, subgroupLine, { budgetBytes });
}

/** Latents and images of the same numbers, and the largest memory each took, beside what is said of it. */
async function both(gpu: Gpu, trainable = false) {
  const model = initAutoencoder(gpu, SMALL, 1, { trainable });
  const run = async (what: "encode" | "decode", shape: number[], seed: number) => {
    const x = Tensor.from(gpu, normals(sizeOf(shape), seed), shape);
    const live = gpu.buffers.liveBytes;
    gpu.buffers.peakBytes = live;
    const dispatches = gpu.dispatches;
    const y = what === "encode" ? model.encode(x, null) : model.decode(x);
    const [B, , h, w] = what === "encode" ? shape : y.shape;
    const cost = {
      peak: gpu.buffers.peakBytes - live,
      said: model.peakBytes(what, B, h, w),
      dispatches: gpu.dispatches - dispatches,
    };
    const values = await y.floats();
    if (!trainable) y.dispose();
    x.dispose();
    return { values, cost };
  };
  const results = [await run("encode", IMAGES, 1), await run("decode", LATENTS, 2)];
  model.dispose();
  return results;
}

Deno.test(
  "Autoencoder gives in bands what it gives at once, bit for bit on software, nearly with gradients",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [whole, banded] = [await both(gpu), await both(await narrowGpu(2 ** 18))];
    const recorded = await both(gpu, true);
    const least = gpu.adapter.software ? 0.85 : 0.7; // on a GPU what is said allows for parts of sums everywhere
    for (const i of [0, 1]) {
      // On a GPU the products of few rows are summed in more parts.
      assertClose(
        banded[i].values,
        whole[i].values,
        gpu.adapter.software ? 0 : FORWARD,
        "in bands",
      );
      assertClose(whole[i].values, recorded[i].values, FORWARD, i ? "decode" : "encode");
      assert.ok(banded[i].cost.dispatches > whole[i].cost.dispatches * 1.5, "several bands");
      for (const { cost } of [banded[i], whole[i]]) {
        assert.ok(cost.peak <= cost.said, `${cost.peak} bytes, said to be ${cost.said}`);
        assert.ok(cost.peak >= least * cost.said, `${cost.peak} bytes, said to be ${cost.said}`);
      }
    }
  },
);

Deno.test("Autoencoder refuses gradients of images beyond one binding", GPU_TEST, async () => {
  const gpu = await narrowGpu(2 ** 20);
  const model = initAutoencoder(gpu, SMALL, 1, { trainable: true });
  const latents = Tensor.zeros(gpu, [1, 4, 40, 40]);
  assert.throws(() => model.decode(latents), {
    name: "ResourceError",
    message:
      "Cannot decode 1 × 80 × 80 pixels with gradients: they become 1.6 MiB, one binding of " +
      "this adapter holds 1.0 MiB",
    help: "use noGrad, fewer or smaller images at a time, or a GPU with larger bindings",
  });
  noGrad(() => model.decode(latents)).dispose();
  latents.dispose();
  model.dispose();
});

Deno.test("passCosts() counts the multiply-adds that the steps record", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = initAutoencoder(gpu, SMALL, 1);
  for (const half of ["encoder", "decoder"] as const) {
    const [images, channels, h, w] = half === "encoder" ? IMAGES : LATENTS;
    const x = Tensor.zeros(gpu, [images, channels, h, w]);
    const { work, together } = passCosts(gpu, SMALL, half, { images, h, w });
    const held = new Held();
    let done = 0;
    const steps = passSteps(held, x, {
      stages: stagesOf(SMALL, half),
      weights: model.parameters.sub(half),
      together,
      begin: toChannelsLast,
      finish: (y) => [toChannelsFirst(y)],
    });
    for (let step = steps.next(); !step.done; step = steps.next()) done += step.value;
    assert.equal(done, work, half);
    held.end();
    x.dispose();
  }
  model.dispose();
});

Deno.test(
  "passCosts() bounds the memory of FLUX's decoder at the sizes the model makes",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const peak = (side: number) =>
      passCosts(gpu, FLUX_AUTOENCODER, "decoder", { images: 1, h: side / 8, w: side / 8 })
        .peakBytes;
    // 256 channels before a block and 128 behind it twice: 1 GiB + 2 · 0.5 GiB at 1024 × 1024
    assert.ok(peak(1024) > 2 ** 31 && peak(1024) < 1.05 * 2 ** 31, `${peak(1024)} bytes`);
    assert.ok(peak(512) < 1.2 * 2 ** 29, `${peak(512)} bytes`);
  },
);

Deno.test("Autoencoder refuses what exceeds the budget, and says what fits", GPU_TEST, async () => {
  const gpu = await budgetGpu(8 * 2 ** 20);
  const model = initAutoencoder(gpu, SMALL, 1);
  const latents = Tensor.zeros(gpu, [1, 4, 100, 80]);
  const live = gpu.buffers.liveBytes;
  let help = "";
  assert.throws(() => model.decode(latents), (error: Error & { help: string }) => {
    assert.equal(error.name, "ResourceError");
    assert.match(
      error.message,
      /^Cannot decode 1 × 200 × 160 pixels: it takes \d+\.\d MiB beside 2\.\d MiB in use, the budget is 8\.0 MiB$/,
    );
    help = error.help;
    return true;
  });
  const said = /^use --budget (\d+)MiB; with the budget as it is, --size (\d+) fits$/.exec(help);
  assert.ok(said, help);
  const [budget, side] = [Number(said[1]) * 2 ** 20, Number(said[2])];
  const needs = (h: number, w: number) => {
    const { peakBytes, copyBytes } = passCosts(gpu, SMALL, "decoder", {
      images: 1,
      h: h / 2,
      w: w / 2,
    });
    return peakBytes + copyBytes + live;
  };
  assert.ok(needs(200, 160) <= budget);
  assert.ok(needs(side, side) <= gpu.buffers.budgetBytes);
  assert.ok(needs(side + 4, side + 4) > gpu.buffers.budgetBytes);
  assert.equal(gpu.buffers.liveBytes, live, "nothing was taken");
  await assert.rejects(model.decodeAsync(latents), { name: "ResourceError" });
  const fitting = Tensor.zeros(gpu, [1, 4, side / 2, side / 2]);
  model.decode(fitting).dispose();
  for (const t of [latents, fitting]) t.dispose();
  model.dispose();
  const enough = await budgetGpu(needs(72, 80));
  const other = initAutoencoder(enough, SMALL, 1);
  const small = Tensor.zeros(enough, [1, 4, 36, 40]);
  other.decode(small).dispose();
  small.dispose();
  other.dispose();
});

Deno.test("Autoencoder refuses images beyond the adapter's buffers", GPU_TEST, async () => {
  const gpu = await budgetGpu(2 ** 40);
  const model = initAutoencoder(gpu, SMALL, 1);
  const side = 2 * Math.ceil(Math.sqrt(gpu.device.limits.maxBufferSize / 256) / 2 + 8);
  const latents = Tensor.empty(gpu, [1, 4, side / 2, side / 2]);
  assert.throws(() => model.decode(latents), {
    name: "ResourceError",
    message: new RegExp(
      `^Cannot decode 1 × ${side} × ${side} pixels: one buffer would take \\S+ ` +
        "GiB, this adapter's end at \\S+ GiB$",
    ),
    help: /^--size \d+ fits$/,
  });
  latents.dispose();
  gpu.buffers.trim();
  model.dispose();
});

Deno.test("Autoencoder works with one half, and names the half it lacks", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = initAutoencoder(gpu, SMALL, 1);
  const half = (prefix: string) => {
    const parameters = new Parameters();
    for (const [name, weight] of model.parameters.entries()) {
      if (name.startsWith(prefix)) parameters.add(name, weight, false);
    }
    return new Autoencoder(gpu, SMALL, parameters);
  };
  const [encoder, decoder] = [half("encoder."), half("decoder.")];
  assert.deepEqual([encoder.parts, decoder.parts, model.parts], ["encoder", "decoder", "both"]);
  const image = Tensor.from(gpu, normals(3 * 64, 1), [1, 3, 8, 8]);
  const latents = encoder.encode(image, null);
  const [got, want] = [decoder, model].map((d) => d.decode(latents));
  assertClose(await got.floats(), await want.floats(), 0, "half");
  assert.throws(() => encoder.decode(latents), {
    name: "TypeError",
    message: "Cannot decode: this autoencoder was given its encoder only, load its decoder too",
  });
  await assert.rejects(decoder.encodeAsync(image, null), {
    message: "Cannot encode: this autoencoder was given its decoder only, load its encoder too",
  });
  const parameters = new Parameters();
  parameters.add("decoder.conv_in.bias", Tensor.zeros(gpu, [64]), false);
  assert.throws(() => new Autoencoder(gpu, SMALL, parameters), {
    name: "InputError",
    message: "Cannot use autoencoder weights: decoder.conv_in.weight (64, 4, 3, 3) is missing",
  });
  for (const t of [image, latents, got, want]) t.dispose();
  model.dispose();
});

Deno.test(
  "encodeAsync() and decodeAsync() give what encode() and decode() give",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = initAutoencoder(gpu, SMALL, 1, { trainable: true });
    const make = (seed: number, ...shape: number[]) =>
      Tensor.from(gpu, normals(sizeOf(shape), seed), shape);
    const image = make(1, 1, 3, 13, 10);
    const own = make(2, 1, 4, 6, 5);
    const noise = make(3, 2, 4, 5, 3);
    const z = noGrad(() => model.encode(image, own));
    const y = noGrad(() => model.decode(noise));
    const live = gpu.buffers.liveCount;
    const seen: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }) =>
      seen.push(done / total);
    const later = [
      model.encodeAsync(image, own, { onProgress }),
      model.decodeAsync(noise, { onProgress }),
    ];
    for (const t of [image, noise, own]) t.dispose(); // both hold on to what they need
    const [zLater, yLater] = await Promise.all(later);
    assert.equal(gpu.buffers.liveCount, live - 3 + 2);
    assertClose(await zLater.floats(), await z.floats(), 0, "latents");
    assertClose(await yLater.floats(), await y.floats(), 0, "images");
    assert.deepEqual(seen, [1, 1]);

    const reason = new Error("no more");
    const stopped = model.decodeAsync(z, { signal: AbortSignal.abort(reason) });
    await assert.rejects(stopped, reason);
    assert.equal(gpu.buffers.liveCount, live - 3 + 2, "nothing is left of a pass called off");
    for (const t of [z, y, zLater, yLater]) t.dispose();
    model.dispose();
  },
);
