// Whether training can go on for days: memory after thousands of steps is memory after the first few hundred.

import assert from "node:assert/strict";
import { normalNoise } from "../../lib/data/noise.ts";
import { packBatch } from "../../lib/data/pack.ts";
import type { Sample } from "../../lib/data/sample.ts";
import { WORD_IDS } from "../../lib/data/words.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { initModel } from "../../lib/model/init.ts";
import { encodePixels } from "../../lib/model/latents.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { trainLoop } from "../../lib/train/loop.ts";
import type { Objective } from "../../lib/train/objective.ts";
import { median } from "../bench/measure.ts";
import { answer, drawn, picture, seen, text } from "../model/small.ts";
import { countFrom, longTest } from "./long.ts";

const STEPS = countFrom("OKA_SOAK_STEPS", 2000);
/** Memory has settled by then: kernels are compiled, pools are filled. */
const WARM = Math.min(200, STEPS >> 1);
/** Steps around a mark whose median counts: the collector makes single readings jump. */
const WINDOW = Math.min(50, WARM >> 1);
const SAMPLES = 4;

/** Four questions and four pictures to draw, new ones at every step. */
function objectivesAt(step: number): Objective[] {
  const config = PRESETS.tiny;
  const options = {
    special: WORD_IDS,
    vitPatch: 8,
    latentPixels: 8,
    vitSide: 4,
    latentSide: 4,
    drawTimestep: () => 0.1 * (step % 10),
  };
  const samples = (make: (seed: number) => Sample) =>
    packBatch(Array.from({ length: SAMPLES }, (_, i) => make(SAMPLES * step + i)), options);
  const asked = samples((seed) => ({
    plan: [seen(picture(seed, 32, 32)), text(1, 2 + seed % 20), answer(3 + seed % 20)],
  }));
  const wanted = samples((seed) => ({
    plan: [text(4, 5 + seed % 20), drawn(picture(seed, 32, 32))],
  }));
  const latents = encodePixels(wanted.vaeImages, config);
  const noise = normalNoise(latents.length, "soak", step);
  const inputs = { packed: wanted, latents, noise, timesteps: wanted.timesteps };
  return [{ name: "text", inputs: { packed: asked } }, { name: "flow", inputs }];
}

longTest(
  `trainLoop() needs no more memory after ${STEPS} steps than after ${WARM}`,
  async () => {
    const gpu: Gpu = await openDevice();
    try {
      const model = initModel(gpu, PRESETS.tiny, 1);
      const optimizer = new AdamW(model.parameters, { emaDecay: 0.99 });
      const resident: number[] = [];
      const live: number[] = [];
      const options = {
        steps: STEPS,
        objectives: objectivesAt,
        learningRate: () => 1e-4,
        clip: { maxNorm: 1, over: "objective" },
        readEveryMs: 0,
      } as const;
      for await (const record of trainLoop(model, optimizer, options)) {
        assert.ok(Number.isFinite(record.metrics.text + record.metrics.flow));
        resident.push(Deno.memoryUsage().rss);
        live.push(gpu.buffers.liveBytes);
        if (record.number % 200 === 0) {
          const rss = (resident.at(-1)! / 2 ** 20).toFixed(1);
          console.log(`step ${record.number}: ${rss} MiB, ${record.seconds.toFixed(0)} s`);
        }
      }
      optimizer.dispose();
      model.dispose();
      // Exact: what is alive on the device after a step is what was alive after the one before.
      assert.deepEqual([...new Set(live.slice(1))].length, 1, `${[...new Set(live)]}`);
      const [before, after] = [resident.slice(WARM, WARM + WINDOW), resident.slice(-WINDOW)]
        .map(median);
      const growth = after / before - 1;
      console.log(
        `${STEPS} steps: ${(before / 2 ** 20).toFixed(1)} → ${(after / 2 ** 20).toFixed(1)} MiB, ` +
          `${(100 * growth).toFixed(2)} % on ${gpu.adapter.name}`,
      );
      assert.ok(growth < 0.02, `resident memory grew by ${(100 * growth).toFixed(2)} %`);
    } finally {
      gpu.close();
    }
  },
  { sanitizeOps: false, sanitizeResources: false },
);
