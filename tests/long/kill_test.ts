import assert from "node:assert/strict";
import { DENO } from "../deno_command.ts";
import { killRepeatedly } from "../train/checkpoint/kill_loop.ts";
import { countFrom, longTest } from "./long.ts";

const KILLS = countFrom("OKA_KILLS", 500);

longTest(
  `writeCheckpoint() loses nothing it acknowledged to ${KILLS} kills`,
  async () => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]; // told by what fails
    const runDir = await Deno.makeTempDir();
    try {
      const { acknowledged, interrupted } = await killRepeatedly(runDir, KILLS, DENO!, seed);
      console.log(`${KILLS} kills, ${interrupted} within a save, ${acknowledged} saves, none lost`);
      assert.ok(interrupted >= KILLS / 4, `seed ${seed}: ${interrupted} of ${KILLS} met a save`);
    } finally {
      await Deno.remove(runDir, { recursive: true });
    }
  },
  { ignore: !DENO },
);
