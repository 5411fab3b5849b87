import assert from "node:assert/strict";
import { trainVae } from "../../lib/cli/train_vae.ts";
import { trainVit } from "../../lib/cli/train_vit.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { GPU_TEST } from "../helpers.ts";
import { runShell } from "./shell.ts";

Deno.test("train:vae and train:vit say what they take", async () => {
  for (const [command, name] of [[trainVae, "train:vae"], [trainVit, "train:vit"]] as const) {
    const { stdout, code } = await runShell(command, ["--help"]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`usage: deno task ${name} \\[--data PATH\\] \\[flags\\]`));
    assert.match(stdout, /--resume +go on from the newest whole checkpoint/);
  }
});

Deno.test("train:vae settles settings from flags, --set with lists, and defaults", async () => {
  const { stdout, code } = await runShell(trainVae, [
    "--print-config",
    "--steps",
    "9",
    "--set",
    "chMult=[1,2,4],zChannels=8",
  ]);
  assert.equal(code, 0);
  const { steps, chMult, zChannels, ch } = JSON.parse(stdout);
  assert.deepEqual({ steps, chMult, zChannels, ch }, {
    steps: 9,
    chMult: [1, 2, 4],
    zChannels: 8,
    ch: 32,
  });
});

Deno.test("train:vae refuses what it does not know", async () => {
  const { stderr, code } = await runShell(trainVae, ["--set", "chMul=[1]"]);
  assert.equal(code, 2);
  assert.match(stderr, /unknown field.*chMul[^]*chMult/i);
  const missing = await runShell(trainVit, [
    "--data",
    "/nowhere/at-all",
    "--run",
    "/tmp/a/b/seed-0",
  ]);
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /Cannot read training data \/nowhere\/at-all/);
});

Deno.test(
  "train:vit trains, says what held-out pairs say, and writes a model's folder",
  GPU_TEST,
  async () => {
    const dir = await Deno.makeTempDir();
    try {
      const run = `${dir}/vit/train/seed-0`;
      const args = [
        ...["--data", "phantoms?count=400", "--steps", "2", "--run", run, "--json", "--quiet"],
        ...["--set", "batch=4,width=8,heldOut=6"],
      ];
      const { stdout, stderr, code } = await runShell(trainVit, args);
      assert.equal(code, 0, stderr);
      const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
      const steps = events.filter(({ event }) => event === "step");
      assert.deepEqual(steps.map(({ number }) => number), [1, 2]);
      assert.equal(steps[1].heldOut.chance, 1 / 6);
      assert.equal(events.find(({ event }) => event === "saved").path, `${run}/model`);
      for (const name of ["config.json", "model.safetensors", "words.json"]) {
        assert.ok((await Deno.stat(`${run}/model/${name}`)).isFile, name);
      }
      assert.equal(readRun(run).sessions[0].reason, "finished");
      const again = await runShell(trainVit, args);
      assert.equal(again.code, 2);
      assert.match(again.stderr, /this run exists[^]*--resume/);
      assert.equal((await runShell(trainVit, [...args, "--resume"])).code, 0);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);
