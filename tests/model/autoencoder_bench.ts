// FLUX's decoder at its full width, weights drawn: time, memory, time by kernel, and whether bands leave seams. The
// same latents are decoded as they would be, in narrow bands, and with every block on whole images.
//
//   deno run -A tests/model/autoencoder_bench.ts [side of the image in pixels: 128]

import process from "node:process";
import assert from "node:assert/strict";
import { noGrad } from "../../lib/autograd.ts";
import { formatBytes } from "../../lib/gpu/buffers.ts";
import { Gpu, openDevice } from "../../lib/gpu/device.ts";
import { passCosts } from "../../lib/model/autoencoder_costs.ts";
import { runStage, stagesOf } from "../../lib/model/autoencoder_stages.ts";
import { initAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { FLUX_AUTOENCODER } from "../../lib/model/config.ts";
import { affine } from "../../lib/ops/affine.ts";
import { toChannelsFirst, toChannelsLast } from "../../lib/ops/channels.ts";
import { profileTable } from "../../lib/show/profile_table.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";

/** Bytes of a band where bands are narrow: no more than the largest weight needs. */
const NARROW = 12 * 2 ** 20;
/** The largest difference between bands and whole images that is rounding: whole ones are not fused. */
const ROUNDING = 1e-4;

/** A device whose bindings can be made smaller. */
class Adjustable extends Gpu {
  most = Infinity;
  override get maxBindingBytes(): number {
    return Math.min(this.most, super.maxBindingBytes);
  }
}

const side = Number(Deno.args[0] ?? 128);
const { device, adapter, subgroupSize, subgroupLine } = await openDevice();
const gpu = new Adjustable(device, adapter, subgroupSize, subgroupLine, { profile: true });
const config = FLUX_AUTOENCODER;
const model = initAutoencoder(gpu, config, 1, { parts: "decoder" });
const { zChannels, downsample, scaleFactor, shiftFactor } = config;
const size = { images: 1, h: side / downsample, w: side / downsample };
const latents = Tensor.from(gpu, normals(zChannels * size.h * size.w, 5), [
  1,
  zChannels,
  size.h,
  size.w,
]);
console.log(`decoding ${side} × ${side} pixels on ${adapter.name}`);
console.log(`weights ${formatBytes(gpu.buffers.liveBytes)}, resident ${resident()}`);

/** The largest resident size of the process so far. */
function resident(): string {
  return formatBytes(process.resourceUsage().maxRSS * 1024);
}

/** Runs a way of decoding and tells what it took. */
async function decode(what: string, run: () => Promise<Tensor>): Promise<Float32Array> {
  const live = gpu.buffers.liveBytes;
  gpu.buffers.peakBytes = live;
  const [started, used, dispatches] = [performance.now(), process.cpuUsage(), gpu.dispatches];
  const y = await run();
  await gpu.settle();
  const seconds = (performance.now() - started) / 1e3;
  const spent = process.cpuUsage(used);
  const values = await y.floats();
  y.dispose();
  console.log(
    `${what}: ${seconds.toFixed(1)} s, ${((spent.user + spent.system) / 1e6).toFixed(1)} s of ` +
      `processors, ${gpu.dispatches - dispatches} launches, ` +
      `${formatBytes(gpu.buffers.peakBytes - live)} beside the weights, resident ${resident()}`,
  );
  return values;
}

/** The largest difference, in shares of the largest value. */
function difference(a: Float32Array, b: Float32Array): number {
  let [most, largest] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    assert.ok(Number.isFinite(a[i]) && Number.isFinite(b[i]), "every value is finite");
    most = Math.max(most, Math.abs(a[i] - b[i]));
    largest = Math.max(largest, Math.abs(a[i]));
  }
  return most / largest;
}

const { work, peakBytes, copyBytes } = passCosts(gpu, config, "decoder", size);
const began = performance.now();
const usual = await decode("as usual", () => model.decodeAsync(latents));
const facts = { adapter: adapter.name, seconds: (performance.now() - began) / 1e3 };
const rows = await gpu.profile?.table() ?? [];
console.log(`said: ${formatBytes(peakBytes)} and ${formatBytes(copyBytes)} of copies`);
console.log(`${(2 * work / 1e9).toFixed(0)} GFLOP in convolutions and attention`);
if (rows.length > 0) console.log(profileTable(rows, facts));

gpu.most = NARROW;
gpu.buffers.trim();
const narrow = await decode("in narrow bands", () => model.decodeAsync(latents));
gpu.most = Infinity;
gpu.buffers.trim();
const half = model.parameters.sub("decoder");
const whole = await decode("on whole images", () =>
  Promise.resolve(noGrad(() => {
    let y = tidy(() => affine(toChannelsLast(latents), 1 / scaleFactor, shiftFactor));
    for (const stage of stagesOf(config, "decoder")) {
      const next = tidy(() => runStage(stage, y, half));
      y.dispose();
      y = next;
    }
    const image = toChannelsFirst(y);
    y.dispose();
    return image;
  })));

const [banded, rounding] = [difference(usual, narrow), difference(usual, whole)];
console.log(`largest difference, narrow bands against as usual: ${banded}`);
console.log(
  `largest difference, whole images against as usual: ${
    rounding.toExponential(1)
  } of the largest value`,
);
assert.equal(banded, 0, "bands are exact");
assert.ok(rounding <= ROUNDING, `${rounding} is more than rounding`);
for (const t of [latents, model]) t.dispose();
gpu.close();
