import assert from "node:assert/strict";
import { trainVae } from "../../lib/cli/train_vae.ts";
import { trainVit } from "../../lib/cli/train_vit.ts";
import { encodePng } from "../../lib/show/png.ts";
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
        ...["--set", "batch=4,width=8,heldOut=8"],
      ];
      const { stdout, stderr, code } = await runShell(trainVit, args);
      assert.equal(code, 0, stderr);
      const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
      const steps = events.filter(({ event }) => event === "step");
      assert.deepEqual(steps.map(({ number }) => number), [1, 2]);
      assert.equal(steps[1].heldOut.chance, 1 / 8);
      assert.equal(steps[1].heldOut.loss > 0, true);
      assert.equal(events.find(({ event }) => event === "saved").path, `${run}/model`);
      const { unit, given, heldOut, looked } = events.find(({ event }) => event === "split");
      assert.deepEqual([unit, given + heldOut, looked], ["pairs", 100, 8]);
      const figure = `${run}/figures/losses`;
      assert.equal(events.find(({ event }) => event === "figure").path, `${figure}.html`);
      const csv = await Deno.readTextFile(`${figure}.csv`);
      assert.match(csv, /^\(a\) Loss,each step,,2,/m);
      assert.match(csv, /^\(a\) Loss,held out,,2,/m);
      assert.match(csv, /^\(b\) Right partner found,image-to-text,,2,/m);
      assert.ok((await Deno.stat(`${figure}.png`)).size > 5000);
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

Deno.test(
  "train:vae takes images without texts, and says what of them is what",
  GPU_TEST,
  async () => {
    const dir = await Deno.makeTempDir();
    try {
      const images = `${dir}/images`;
      await Deno.mkdir(images);
      for (let i = 0; i < 9; i++) {
        const rgb = Uint8Array.from({ length: 16 * 16 * 3 }, (_, k) => (k * (i + 3)) % 256);
        await Deno.writeFile(`${images}/${i}.png`, encodePng({ width: 16, height: 16, rgb }));
      }
      const run = `${dir}/vae/train/seed-0`;
      const train = (...more: string[]) =>
        runShell(trainVae, [
          ...["--data", images, "--size", "16", "--steps", "1", "--run", run],
          ...["--set", "batch=1,statistics=2,chMult=[1,1]", ...more],
        ]);
      const { stdout, stderr, code } = await train();
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^images: 7 to train on, 2 held out$/m);
      assert.match(stdout, /step-0000001\.png: held out above, reconstructed below\n/);
      assert.match(stdout, /figures\/losses\.html: losses by step/);
      assert.match(stdout, /the images have no texts, so its vocabulary has no words/);
      await Deno.writeTextFile(`${images}/broken.png`, "no image");
      const broken = await train("--resume");
      assert.equal(broken.code, 3);
      assert.match(broken.stderr, /broken\.png[^]*--set mostBad=0\.05/);
      const pairs = await runShell(trainVit, [
        "--data",
        images,
        "--run",
        `${dir}/vit/train/seed-0`,
      ]);
      assert.equal(pairs.code, 3);
      assert.match(
        pairs.stderr,
        /none of its 10 records[^]*0\.png: it has no text[^]*Put a text beside/,
      );
      const again = await runShell(trainVae, ["--data", "/nowhere", "--run", run]);
      assert.equal(again.code, 2, "it is told before data is looked at");
      assert.match(again.stderr, /this run exists[^]*--run \S+\/vae\/again\/seed-0$/m);
      const unnamed = await runShell(trainVae, ["--data", "/nowhere", "--run", `${dir}/out`]);
      assert.equal(unnamed.code, 2);
      assert.match(
        unnamed.stderr,
        /study\/arm\/seed-0[^]*such as --run runs\/chest\/first\/seed-0/,
      );
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);
