import assert from "node:assert/strict";
import { noGrad } from "../../lib/autograd.ts";
import { openLatentCache } from "../../lib/data/training/latent_cache.ts";
import { normalNoise } from "../../lib/data/noise.ts";
import { packBatch } from "../../lib/data/pack.ts";
import { patchify } from "../../lib/data/patches.ts";
import type { PlanItem } from "../../lib/data/sample.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { WORD_IDS } from "../../lib/data/words.ts";
import type { AutoencoderConfig } from "../../lib/model/autoencoder.ts";
import { initAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { latentSize, PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { encodePixels } from "../../lib/model/latents.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { encoderDigest, latentsOf } from "../../lib/train/latents.ts";
import { assertClose, GPU_TEST, normals, testGpu } from "../helpers.ts";

const SMALL: AutoencoderConfig = {
  resolution: 16,
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
const CONFIG: UniMedVLConfig = {
  ...PRESETS.tiny,
  latent: { kind: "autoencoder", autoencoder: SMALL },
  latentPatchSize: 2,
};
const PACK = { special: WORD_IDS, vitPatch: 8, latentPixels: 4, vitSide: 4, latentSide: 8 };

const image = (height: number, width: number, seed: number): Pixels => {
  return { height, width, data: normals(3 * height * width, seed, 0.5) };
};
const vae = (image: Pixels, loss = true): PlanItem => ({ type: "vae_image", loss, image });
const pack = (...items: PlanItem[]) =>
  packBatch([{ plan: items }], { ...PACK, drawTimestep: () => 0 });

Deno.test("latentsOf() gives pixels in patches where the model has no autoencoder", async () => {
  const one = image(16, 8, 1);
  const packed = packBatch([{ plan: [vae(one)] }], {
    ...PACK,
    latentPixels: 8,
    drawTimestep: () => 0,
  });
  const latents = await latentsOf({ config: PRESETS.tiny }, undefined, packed);
  assert.deepEqual(latents, encodePixels([one], PRESETS.tiny));
  await assert.rejects(
    latentsOf({ config: CONFIG }, undefined, pack(vae(one))),
    /autoencoder is missing/,
  );
});

Deno.test("latentsOf() encodes each image alone and samples it by its key", GPU_TEST, async () => {
  const gpu = await testGpu();
  const before = gpu.buffers.liveCount;
  const autoencoder = initAutoencoder(gpu, SMALL, 1);
  const [a, b] = [image(8, 12, 1), image(16, 8, 2)];
  const together = pack(vae(a), vae(b), vae(a, false));
  const keys = [[3, 7, 0], [3, 7, 1], [3, 7, 2]];
  const latents = await latentsOf({ config: CONFIG }, autoencoder, together, { keys });
  const width = latentSize(CONFIG);
  const [first, second] = [2 * 3 * width, 4 * 2 * width];
  assert.equal(latents.length, 2 * first + second);
  // The autoencoder's own answer for each image, whatever else is in the batch.
  let at = 0;
  for (const [i, { height, width, data }] of [a, b, a].entries()) {
    const [h, w] = [height / 2, width / 2];
    const noise = normalNoise(4 * h * w, "posterior", ...keys[i]);
    const z = tidy(() =>
      noGrad(() =>
        autoencoder.encode(
          Tensor.from(gpu, data, [1, 3, height, width]),
          Tensor.from(gpu, noise, [1, 4, h, w]),
        )
      )
    );
    const expected = patchify(await z.floats(), h, w, 2);
    z.dispose();
    assertClose(latents.subarray(at, at + expected.length), expected, 1e-5, `image ${i}`);
    at += expected.length;
  }
  // One image, one posterior: with its key alone it is the same; under another key it is not.
  const alone = await latentsOf({ config: CONFIG }, autoencoder, pack(vae(b)), { keys: [keys[1]] });
  assert.deepEqual(alone, latents.subarray(first, first + second));
  assert.notDeepEqual(latents.subarray(0, first), latents.subarray(first + second));
  await assert.rejects(
    latentsOf({ config: CONFIG }, autoencoder, together, { keys: [keys[0]] }),
    /3 images have 1 keys/,
  );
  autoencoder.dispose();
  assert.equal(gpu.buffers.liveCount, before);
});

Deno.test("latentsOf() without keys takes the mean of the posterior", GPU_TEST, async () => {
  const gpu = await testGpu();
  const autoencoder = initAutoencoder(gpu, SMALL, 1);
  const a = image(8, 12, 1);
  const z = tidy(() =>
    noGrad(() => autoencoder.encode(Tensor.from(gpu, a.data, [1, 3, 8, 12]), null))
  );
  const latents = await latentsOf({ config: CONFIG }, autoencoder, pack(vae(a)));
  assertClose(latents, patchify(await z.floats(), 4, 6, 2), 1e-5, "mean");
  z.dispose();
  autoencoder.dispose();
});

Deno.test(
  "latents from the cache equal computed ones bit for bit, and a damaged entry is computed again",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const autoencoder = initAutoencoder(gpu, SMALL, 1);
    const dir = await Deno.makeTempDir();
    const notes: string[] = [];
    const digest = await encoderDigest(autoencoder);
    const open = (autoencoder: string) =>
      openLatentCache(dir, { autoencoder, onNote: (message) => notes.push(message) });
    const a = image(8, 12, 1);
    const packed = pack(vae(a), vae(image(16, 8, 2)));
    const keys = [[0, 0, 0], [0, 0, 1]];
    const read = async (digestOf = digest, encoder = autoencoder) => {
      const cache = await open(digestOf);
      const latents = await latentsOf({ config: CONFIG }, encoder, packed, { cache, keys });
      return { latents, hits: cache.hits, misses: cache.misses, path: cache.key(a) };
    };
    const without = await latentsOf({ config: CONFIG }, autoencoder, packed, { keys });
    const miss = await read();
    const idle: typeof autoencoder = Object.create(autoencoder, {
      encodeMoments: { value: () => assert.fail("the autoencoder was asked") },
    });
    const hit = await read(digest, idle);
    assert.deepEqual([miss.hits, miss.misses, hit.hits, hit.misses], [0, 2, 2, 0]);
    assert.deepEqual(miss.latents, without);
    assert.deepEqual(hit.latents, without);
    assert.deepEqual(notes, []);

    const path = `${dir}/${miss.path.slice(0, 2)}/${miss.path}.latents`;
    const whole = await Deno.readFile(path);
    for (const damage of ["flip", "cut", "empty"]) {
      const bytes = damage === "flip" ? whole.slice() : whole.slice(0, damage === "cut" ? 200 : 0);
      if (damage === "flip") bytes[100] ^= 1;
      await Deno.writeFile(path, bytes);
      const again = await read();
      assert.deepEqual([again.hits, again.misses], [1, 1], damage);
      assert.deepEqual(again.latents, without);
      assert.match(
        notes.splice(0).join(),
        /^Cannot use the latents in .*: the file is damaged; they are/,
      );
      assert.deepEqual(await Deno.readFile(path), whole); // repaired
    }

    const other = initAutoencoder(gpu, SMALL, 2);
    const otherDigest = await encoderDigest(other);
    assert.notEqual(otherDigest, digest);
    assert.equal((await read(otherDigest)).hits, 0);
    other.dispose();
    autoencoder.dispose();
    await Deno.remove(dir, { recursive: true });
  },
);
