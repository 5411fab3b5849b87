import assert from "node:assert/strict";
import { backward, noGrad, parameter } from "../../lib/autograd.ts";
import { writeSafetensors } from "../../lib/data/safetensors.ts";
import { Autoencoder, type AutoencoderConfig } from "../../lib/model/autoencoder.ts";
import { autoencoderShapes } from "../../lib/model/autoencoder_shapes.ts";
import { initAutoencoder, loadAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { FLUX_AUTOENCODER } from "../../lib/model/config.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { checkVae } from "../../lib/parity/vae.ts";
import { sizeOf, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, GPU_TEST, normals, testGpu } from "../helpers.ts";

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

const FIXTURE = new URL("../../../shared/fixtures/tiny-a", import.meta.url).pathname;
const present = await Deno.stat(FIXTURE).then(() => true, () => false);
const suffix = present ? "" : " (skipped: ../shared/fixtures/tiny-a is absent)";

Deno.test("autoencoderShapes() counts 83,819,683 parameters in 244 tensors at FLUX's size", () => {
  const shapes = autoencoderShapes(FLUX_AUTOENCODER);
  assert.equal([...shapes.values()].reduce((n, shape) => n + sizeOf(shape), 0), 83_819_683);
  assert.equal(shapes.size, 244);
  assert.deepEqual(shapes.get("decoder.up.0.block.0.nin_shortcut.weight"), [128, 256, 1, 1]);
});

Deno.test({
  name: `checkVae() passes on every tensor of the reference${suffix}`,
  ignore: !present,
  ...GPU_TEST,
  fn: async () => {
    const gpu = await testGpu();
    const before = gpu.buffers.liveCount;
    const rows = await checkVae(gpu, FIXTURE);
    assert.equal(rows.length, 14);
    assert.deepEqual(rows.filter((row) => !row.ok), []);
    assert.equal(gpu.buffers.liveCount, before, "everything was given back");
  },
});

Deno.test("Autoencoder gradients match differences of its own forward pass", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = initAutoencoder(gpu, SMALL, 1, { trainable: true });
  const shape = [2, 3, 6, 10];
  const image = parameter(Tensor.from(gpu, normals(sizeOf(shape), 2), shape));
  const noise = Tensor.from(gpu, normals(2 * 4 * 3 * 5, 3), [2, 4, 3, 5]).keep();
  const upstream = Tensor.from(gpu, normals(sizeOf(shape), 4), shape).keep();
  const forward = () => model.decode(model.encode(image, noise));
  const grads = tidy(() => backward(forward(), { seeds: [upstream] }));
  assert.equal(grads.size, 1 + autoencoderShapes(SMALL).size, "every weight has a gradient");
  const weights = upstream.size;
  const loss = async () => {
    const y = noGrad(() => tidy(forward));
    const [values, seeds] = [await y.floats(), await upstream.floats()];
    y.dispose();
    let sum = 0;
    for (let i = 0; i < weights; i++) sum += values[i] * seeds[i];
    return sum;
  };
  // along the gradient of each tensor, so that the slope is far above f32 noise: slope = |gradient|²
  const names = [
    "encoder.conv_in.weight",
    "encoder.down.0.downsample.conv.weight",
    "encoder.mid.attn_1.q.weight",
    "encoder.norm_out.bias",
    "decoder.up.1.upsample.conv.weight",
    "decoder.conv_out.bias",
  ];
  const checked = [image, ...names.map((name) => model.parameters.get(name))];
  for (const [i, tensor] of checked.entries()) {
    const [values, gradient] = [await tensor.floats(), await grads.get(tensor)!.floats()];
    const norm = Math.hypot(...gradient);
    const step = 2e-2 / Math.sqrt(tensor.size);
    const moved = async (sign: number) => {
      tensor.write(
        values.map((v, j) => v + sign * step * Math.sqrt(tensor.size) * gradient[j] / norm),
      );
      return await loss();
    };
    const slope = (await moved(1) - await moved(-1)) / (2 * step * Math.sqrt(tensor.size));
    tensor.write(values);
    assertClose([slope], [norm], 1e-2, i === 0 ? "image" : names[i - 1]);
  }
  for (const t of [image, noise, upstream, ...grads.values()]) t.dispose();
  model.dispose();
});

Deno.test(
  "encode() gives the same bits for the same batch, and padding changes them",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = initAutoencoder(gpu, SMALL, 5);
    const [h, w] = [8, 12];
    const pixels = normals(3 * h * w, 6);
    const encode = async (height: number) => {
      const padded = new Float32Array(3 * height * w);
      for (let c = 0; c < 3; c++) {
        padded.set(pixels.subarray(c * h * w, (c + 1) * h * w), c * height * w);
      }
      const z = noGrad(() =>
        tidy(() => model.encode(Tensor.from(gpu, padded, [1, 3, height, w]), null))
      );
      const values = await z.floats();
      z.dispose();
      return values;
    };
    const [once, twice, longer] = [await encode(h), await encode(h), await encode(h + 4)];
    assert.deepEqual(once, twice);
    assert.notEqual(once[0], longer[0]);
    model.dispose();
  },
);

Deno.test(
  "encode() and decode() give back what they used when nothing is trained",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = initAutoencoder(gpu, SMALL, 5);
    const image = Tensor.from(gpu, normals(3 * 16 * 16, 6), [1, 3, 16, 16]);
    const before = gpu.buffers.liveCount;
    const y = tidy(() => model.decode(model.encode(image, null)));
    assert.deepEqual(y.shape, [1, 3, 16, 16]);
    assert.equal(gpu.buffers.liveCount, before + 1);
    y.dispose();
    image.dispose();
    model.dispose();
  },
);

Deno.test(
  "loadAutoencoder() reads what was written, and names what does not fit",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await Deno.makeTempDir();
    try {
      const model = initAutoencoder(gpu, SMALL, 7);
      const entries = [...model.parameters.entries()];
      const values = await Promise.all(entries.map(([, t]) => t.floats()));
      const path = `${dir}/ae.safetensors`;
      await writeSafetensors(
        path,
        entries.map(([name, { shape }], i) => [
          `vae_model.${name}`,
          { dtype: "F32" as const, shape, data: values[i] },
        ]),
      );
      const loaded = await loadAutoencoder(gpu, SMALL, path);
      const name = "decoder.up.1.upsample.conv.weight";
      assert.deepEqual(
        await loaded.parameters.get(name).floats(),
        await model.parameters.get(name).floats(),
      );
      loaded.dispose();
      const half = await loadAutoencoder(gpu, SMALL, path, { parts: "decoder" });
      assert.equal(half.parts, "decoder");
      assert.equal(half.parameters.find("encoder.conv_in.weight"), undefined);
      half.dispose();
      model.dispose();
      await assert.rejects(loadAutoencoder(gpu, { ...SMALL, zChannels: 8 }, path), {
        name: "InputError",
        message: `Cannot load weights from ${path}: vae_model.encoder.conv_out.weight is ` +
          "(16, 64, 3, 3) by the config, (8, 64, 3, 3) in the file; vae_model.encoder.conv_out.bias is " +
          "(16) by the config, (8) in the file; vae_model.decoder.conv_in.weight is (64, 8, 3, 3) by the " +
          "config, (64, 4, 3, 3) in the file",
      });
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);

Deno.test("Autoencoder refuses configs, weights and shapes that do not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const make = (change: Partial<AutoencoderConfig>) => () =>
    new Autoencoder(gpu, { ...SMALL, ...change }, new Parameters());
  const refused: [Partial<AutoencoderConfig>, string][] = [
    [{ ch: 48 }, "ch is 48"],
    [{ downsample: 8 }, "downsample is 8"],
    [{ chMult: [] }, "chMult is []"],
    [{ zChannels: 0 }, "zChannels is 0"],
  ];
  for (const [change, what] of refused) {
    assert.throws(make(change), {
      name: "UsageError",
      message: `Cannot use the autoencoder config: ${what}`,
    });
  }
  assert.throws(make({}), {
    name: "InputError",
    message: "Cannot use autoencoder weights: encoder.conv_in.weight (32, 3, 3, 3) is missing",
  });
  const model = initAutoencoder(gpu, SMALL, 1);
  assert.throws(() => model.encode(Tensor.zeros(gpu, [1, 4, 8, 8]), null), {
    name: "TypeError",
    message: "Cannot encode (1, 4, 8, 8): not a batch of images with 3 channels",
  });
  assert.throws(() => model.decode(Tensor.zeros(gpu, [4, 8, 8])), {
    message: "Cannot decode (4, 8, 8): not a batch of images with 4 channels",
  });
  model.dispose();
});
