// Whether training can go on for days: memory after thousands of steps is memory after the first few hundred, with
// the loader's worker, the run record and a checkpoint every hundred steps.

import assert from "node:assert/strict";
import { openDevice } from "../../lib/gpu/device.ts";
import { train } from "../../lib/session/train.ts";
import { parseConfigFile, resolveTrainConfig } from "../../lib/train/config/resolve.ts";
import { median } from "../bench/measure.ts";
import { inFolder, SHORT } from "../session/small_runs.ts";
import { countFrom, longTest } from "./long.ts";

const STEPS = countFrom("OKA_SOAK_STEPS", 2000);
/** Memory has settled by then: kernels are compiled, pools are filled. */
const WARM = Math.min(200, STEPS >> 1);
/** Steps at a mark whose median counts: one round of what the pool of buffers gives up. */
const WINDOW = Math.min(100, WARM >> 1);

/** One long stage of every task on phantoms, the averages kept, nothing held out. */
function settings() {
  const file = {
    ...SHORT,
    name: "soak",
    batch: { samples: 4 },
    accumulate: 1,
    data: { sources: [{ path: "phantoms" }], workers: 1 },
    stages: [{
      ...SHORT.stages[0],
      steps: STEPS,
      mix: { t2i: 1, i2t: 1, interleaved: 1, text: 1 },
      freeze: [],
    }],
    save: { every: 100, keep: 2 },
  };
  return resolveTrainConfig({ file: parseConfigFile(JSON.stringify(file), "soak") });
}

longTest(
  `train() needs no more memory after ${STEPS} steps than after ${WARM}`,
  async () => {
    const gpu = await openDevice();
    try {
      await inFolder(async (dir) => {
        const resident: number[] = [];
        const live: number[] = [];
        let saves = 0;
        for await (const step of train(gpu, settings(), { run: `${dir}/study/soak/seed-0` })) {
          resident.push(Deno.memoryUsage().rss);
          live.push(gpu.buffers.liveBytes);
          if (step.checkpoint) saves++;
          if (step.number % 100 === 0) {
            const rss = (resident.at(-1)! / 2 ** 20).toFixed(1);
            console.log(`step ${step.number}: ${rss} MiB, ${step.seconds.toFixed(0)} s`);
          }
        }
        assert.deepEqual([resident.length, saves], [STEPS, Math.ceil(STEPS / 100)]);
        // Exact: what is alive on the device after a step is what was alive after the one before.
        assert.equal(new Set(live).size, 1, `${[...new Set(live)]}`);
        const [before, after] = [resident.slice(WARM, WARM + WINDOW), resident.slice(-WINDOW)]
          .map(median);
        const growth = after / before - 1;
        console.log(
          `${STEPS} steps, ${saves} saves: ${(before / 2 ** 20).toFixed(1)} → ` +
            `${(after / 2 ** 20).toFixed(1)} MiB, ${(100 * growth).toFixed(2)} % on ` +
            gpu.adapter.name,
        );
        assert.ok(growth < 0.02, `resident memory grew by ${(100 * growth).toFixed(2)} %`);
      });
    } finally {
      gpu.close();
    }
  },
  { sanitizeOps: false, sanitizeResources: false },
);
