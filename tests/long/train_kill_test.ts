import assert from "node:assert/strict";
import { killAndResume } from "../session/kill_loop.ts";
import { startTraining } from "../session/processes.ts";
import { inFolder, leftBehind, SHORT } from "../session/small_runs.ts";
import { countFrom, longTest } from "./long.ts";

const KILLS = countFrom("OKA_TRAIN_KILLS", 20);

longTest(
  `a training survives ${KILLS} kills with the bits of one that was not killed`,
  async () => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]; // told by what fails
    await inFolder(async (dir) => {
      const path = `${dir}/config.json`;
      const stages = SHORT.stages.map((stage) => ({ ...stage, steps: 6 * KILLS }));
      const end = 12 * KILLS;
      await Deno.writeTextFile(
        path,
        JSON.stringify({ ...SHORT, stages, save: { every: 3, keep: 2 } }),
      );
      const whole = `${dir}/study/whole/seed-0`;
      const { code, stderr } = await (await startTraining(["--config", path, "--run", whole]))
        .ended;
      assert.equal(code, 0, stderr);
      const run = `${dir}/study/killed/seed-0`;
      const args = ["--config", path, "--run", run, "--resume"];
      const tally = await killAndResume(run, args, { kills: KILLS, saveEvery: 3, seed });
      const [got, want] = await Promise.all([run, whole].map((each) => leftBehind(each, end)));
      assert.deepEqual(got, want, `seed ${seed}`);
      console.log(
        `${tally.kills} kills, ${tally.repeated} steps made again, the same bits at step ${end}`,
      );
    });
  },
);
