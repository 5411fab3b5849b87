import assert from "node:assert/strict";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../lib/data/safetensors.ts";
import { openFixture, type Row } from "../lib/parity/compare.ts";
import { type Group, GROUPS, runGroup } from "../lib/parity/groups.ts";
import { GPU_TEST, testGpu } from "./helpers.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const TINY = new URL("../../shared/fixtures/tiny-a", import.meta.url).pathname;
const present = await Deno.stat(TINY).then(() => true, () => false);
const suffix = present ? "" : " (skipped: ../shared/fixtures/tiny-a is absent)";

async function groupRows(dir: string, group: Group): Promise<Row[]> {
  const fixture = await openFixture(dir);
  try {
    return await runGroup(group, await testGpu(), fixture);
  } finally {
    await fixture.close();
  }
}

/** A copy of the fixture, to be changed. (Links would need unscoped permissions.) */
async function withCopy(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "parity-" });
  try {
    for await (const { name } of Deno.readDir(TINY)) {
      await Deno.copyFile(`${TINY}/${name}`, `${dir}/${name}`);
    }
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Adds to one value of one tensor. */
async function perturb(path: string, name: string, at: number, by: number): Promise<void> {
  const file = await openSafetensors(path);
  const tensors: [string, TensorToWrite][] = [];
  for (const [key, { shape, dtype }] of file.tensors) {
    assert.equal(dtype, "F32");
    const data = await file.readFloat32(key);
    if (key === name) data[at] += by;
    tensors.push([key, { dtype: "F32", shape, data }]);
  }
  file.close();
  await writeSafetensors(path, tensors);
}

/** `deno task parity` as a process of its own, with the permissions the task has. */
async function command(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["run", "--no-prompt", "--allow-read", "lib/cli/parity.ts", ...args],
    cwd: ROOT,
    env: { XDG_RUNTIME_DIR: "/tmp" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

for (const group of GROUPS) {
  Deno.test({
    ...GPU_TEST,
    name: `parity: every ${group} tensor of tiny-a is within tolerance${suffix}`,
    ignore: !present,
    fn: async () => {
      const { gpu, live } = { gpu: await testGpu(), live: (await testGpu()).buffers.liveCount };
      const rows = await groupRows(TINY, group);
      assert.deepEqual(rows.filter(({ ok }) => !ok), []);
      assert.ok(rows.length > 10);
      assert.ok(rows.every(({ error }) => Number.isFinite(error)));
      const names = rows.map((row) => `${row.case}/${row.tensor}`);
      assert.equal(new Set(names).size, names.length, "no tensor is counted twice");
      assert.equal(gpu.buffers.liveCount, live, "everything was given back");
    },
  });
}

Deno.test({
  name: `parity: train compares the gradient of every trainable tensor of the fixture${suffix}`,
  ignore: !present,
  ...GPU_TEST,
  fn: async () => {
    const rows = await groupRows(TINY, "train");
    const gradients = rows.filter((row) => row.case === "gradient").map(({ tensor }) => tensor);
    const fixture = await openFixture(TINY);
    assert.deepEqual(gradients.sort(), fixture.names("train_grads.safetensors").sort());
    const outputs = fixture.names("train_batch.safetensors", "out");
    const compared = new Set(rows.map(({ tensor }) => tensor));
    assert.deepEqual(outputs.filter((name) => !compared.has(name)), []);
    await fixture.close();
  },
});

Deno.test({
  name: `parity: one changed weight is found, and ends the command with 1${suffix}`,
  ignore: !present,
  ...GPU_TEST,
  fn: async () => {
    await withCopy(async (dir) => {
      const weight = "language_model.model.layers.1.mlp_moe_gen.up_proj.weight";
      await perturb(`${dir}/model.safetensors`, weight, 5, 0.01);
      const missed = (await groupRows(dir, "train")).filter(({ ok }) => !ok);
      const names = new Set(missed.map(({ tensor }) => tensor));
      assert.ok(names.has("mse_preds") && names.has(weight), [...names].join());
      assert.ok(!names.has("ce_logits"), "text does not see what a last gen layer does");

      const { code, stdout } = await command(dir, "--only", "train");
      assert.equal(code, 1, stdout);
      assert.match(stdout, /^MISS train\/batch /m);
      assert.match(stdout, /^ {2}MISS mse_preds .*: element \d+: got \S+, expected \S+$/m);
      const [, total, within, outside] =
        /total: (\d+) tensors, (\d+) within tolerance, (\d+) outside/.exec(stdout)!.map(Number);
      assert.equal(within + outside, total);
      assert.equal(outside, missed.length);
    });
  },
});

Deno.test({
  name: `parity: a gradient that one side lacks is found${suffix}`,
  ignore: !present,
  ...GPU_TEST,
  fn: async () => {
    await withCopy(async (dir) => {
      const index = JSON.parse(await Deno.readTextFile(`${dir}/index.json`));
      const { tensors } = index.files["train_grads.safetensors"];
      tensors["connector.fc3.bias"] = tensors["connector.fc1.bias"];
      delete tensors["connector.fc1.bias"];
      await Deno.writeTextFile(`${dir}/index.json`, JSON.stringify(index));
      const missed = (await groupRows(dir, "train")).filter(({ ok }) => !ok);
      assert.deepEqual(missed.map(({ tensor, note }) => [tensor, note]), [
        ["connector.fc3.bias", "the model has no such weight"],
        ["connector.fc1.bias", "not in the fixture"],
      ]);
    });
  },
});

Deno.test({
  name: `parity: a changed optimizer setting is found in the infer_text, infer_image${suffix}`,
  ignore: !present,
  ...GPU_TEST,
  fn: async () => {
    await withCopy(async (dir) => {
      const path = `${dir}/train_steps.json`;
      const settings = JSON.parse(await Deno.readTextFile(path));
      settings.betas[1] = 0.96;
      settings.ema_decay = 0.9;
      await Deno.writeTextFile(path, JSON.stringify(settings));
      const rows = await groupRows(dir, "steps");
      const missed = new Set(rows.filter(({ ok }) => !ok).map((row) => row.case));
      assert.ok(missed.has("final") && missed.has("ema"), [...missed].join());
      assert.ok(!missed.has("step0") && !missed.has("step1"), "both act from the third step on");
    });
  },
});

Deno.test({
  name: `parity: the command passes a fixture and prints a total${suffix}`,
  ignore: !present,
  fn: async () => {
    const { code, stdout, stderr } = await command(TINY, "--only", "packing,optim");
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /^ok {3}packing\/packing:t2i_text_kept +\d+ tensors +worst /m);
    assert.match(stdout, /^total: (\d+) tensors, \1 within tolerance, 0 outside$/m);
    const json = await command(TINY, "--only", "packing", "--json");
    const events = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(json.code, 0);
    assert.ok(events.every(({ event }) => typeof event === "string"));
    assert.equal(events.find(({ event, failed }) => event === "done" && failed === 0)?.failed, 0);
  },
});

Deno.test({
  name: `parity: an unknown group is a usage error (2)${suffix}`,
  ignore: !present,
  fn: async () => {
    const { code, stderr } = await command(TINY, "--only", "ops,nope");
    assert.equal(code, 2);
    assert.match(stderr, /^error: Cannot check group "nope": there is none of that name$/m);
    assert.match(
      stderr,
      /^help: groups are ops, vae, packing, transforms, optim, train, steps, infer_text, infer_image$/m,
    );
  },
});

Deno.test("parity: a missing folder is an input error (3) that names the file", async () => {
  const { code, stderr } = await command("no/such/folder");
  assert.equal(code, 3);
  assert.match(stderr, /^error: Cannot read no\/such\/folder\/index\.json: /m);
  assert.match(stderr, /^help: Give a folder of golden numbers/m);
});

Deno.test("parity: no folder at all is a usage error (2)", async () => {
  const { code, stderr } = await command();
  assert.equal(code, 2);
  assert.match(stderr, /^error: Cannot run parity: DIR is missing$/m);
});

Deno.test({
  name: `parity: a broken file of a fixture is an input error (3) that names it${suffix}`,
  ignore: !present,
  fn: async () => {
    await withCopy(async (dir) => {
      const path = `${dir}/train_batch.safetensors`;
      const bytes = await Deno.readFile(path);
      await Deno.writeFile(path, bytes.subarray(0, bytes.length - 64));
      const cut = await command(dir, "--only", "train");
      assert.equal(cut.code, 3, cut.stderr);
      assert.match(
        cut.stderr,
        /^error: Cannot read safetensors file .*train_batch\.safetensors: /m,
      );
      await Deno.remove(`${dir}/model.safetensors`);
      const gone = await command(dir, "--only", "train");
      assert.equal(gone.code, 3, gone.stderr);
      assert.match(gone.stderr, /^error: Cannot open .*model\.safetensors: No such file/m);
    });
  },
});
