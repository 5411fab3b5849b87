import assert from "node:assert/strict";
import { DENO } from "../../deno_command.ts";
import { killRepeatedly } from "./kill_loop.ts";

const KILLS = 20;

Deno.test({
  name: `writeCheckpoint() loses nothing it acknowledged to ${KILLS} kills` +
    (DENO ? "" : " (needs permission to run deno)"),
  ignore: !DENO,
  fn: async () => {
    const runDir = await Deno.makeTempDir();
    try {
      const { acknowledged, interrupted } = await killRepeatedly(runDir, KILLS, DENO!, 1);
      // Kills that never meet a save would prove nothing.
      assert.ok(interrupted >= KILLS / 4, `${interrupted} of ${KILLS} met a save`);
      assert.ok(acknowledged > 0);
    } finally {
      await Deno.remove(runDir, { recursive: true });
    }
  },
});
