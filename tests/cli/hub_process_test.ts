// The download as a process of its own: links, signals and kills as they really are, and what narrow permissions
// leave of it.

import assert from "node:assert/strict";
import {
  assertBytes,
  downloadHere,
  modelHub,
  ROOT,
  sha256,
  sizeOf,
  SNAPSHOT,
  TAKEN,
  WEIGHTS,
} from "./hub_server.ts";

const COMMAND = new URL("../../lib/cli/checkpoint_download.ts", import.meta.url).href;
const RUNNER = new URL("../../lib/cli/command.ts", import.meta.url).href;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** Starts the command with every permission. */
function child(hub: { endpoint: string }, env: Record<string, string>): Deno.ChildProcess {
  const code =
    `import { downloadCommand } from "${COMMAND}"; import { runCommand } from "${RUNNER}";
    await runCommand(downloadCommand.spec, downloadCommand.main);`;
  return new Deno.Command("deno", {
    args: ["eval", "--config", CONFIG, code, "org/model", "--endpoint", hub.endpoint, "--json"],
    env,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function ended(process: Deno.ChildProcess) {
  const { code, stdout, stderr } = await process.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** Waits until a file has `size` bytes. */
async function untilPart(path: string, size: number): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (sizeOf(path) === size) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${path} did not get ${size} bytes in 30 s`);
}

Deno.test("a process stopped by SIGINT, then one killed, then one that ends: nothing is sent twice, links are relative", async () => {
  await using s = modelHub();
  const env = { HF_HUB_CACHE: s.cache.path, HF_TOKEN: "hf_secret" };
  const part = `${s.cache.path}/${ROOT}/blobs/${sha256(WEIGHTS)}.incomplete`;
  // Four files come before the weights; the one without bytes is not asked for.
  s.hub.faults.push(...Array(4), { stallAt: 10_000 }, { stallAt: 25_000 });

  await using first = child(s.hub, env);
  await untilPart(part, 10_000);
  first.kill("SIGINT");
  const stopped = await ended(first);
  assert.equal(stopped.code, 130, stopped.stderr);
  assert.match(stopped.stderr, /help: what came is kept: the same command goes on from there/);
  assert.equal((await Deno.stat(part)).size, 10_000);

  await using second = child(s.hub, env);
  await untilPart(part, 25_000);
  second.kill("SIGKILL");
  assert.equal((await ended(second)).code, 137);
  assert.equal((await Deno.stat(part)).size, 25_000);

  const third = await ended(child(s.hub, env));
  assert.equal(third.code, 0, third.stderr);
  const sizes = TAKEN.map((name) => s.hub.files.get(name)!.length);
  assert.equal(s.hub.sentBytes, sizes.reduce((sum, size) => sum + size, 0));
  const folder = `${s.cache.path}/${SNAPSHOT}`;
  assert.equal(await Deno.readLink(`${folder}/ema.safetensors`), `../../blobs/${sha256(WEIGHTS)}`);
  assertBytes(`${folder}/ema.safetensors`, WEIGHTS);
  assert.equal(s.hub.seen[0].token, "Bearer hf_secret");
  assert.ok(!(third.stdout + third.stderr).includes("hf_secret"));
});

const folder = Deno.makeTempDirSync({ prefix: "hub_links_" });
Deno.test("without the right to make symlinks a snapshot has hard links", {
  permissions: { net: ["127.0.0.1"], read: [folder], write: [folder] },
}, async () => {
  await using s = modelHub(folder);
  const ran = await downloadHere(s.hub, folder, {
    world: { freeBytes: () => Promise.resolve(undefined) },
  });
  assert.equal(ran.code, 0, ran.stderr);
  const weights = await Deno.lstat(`${folder}/${SNAPSHOT}/ema.safetensors`);
  const blob = await Deno.lstat(`${folder}/${ROOT}/blobs/${sha256(WEIGHTS)}`);
  assert.equal(weights.isSymlink, false);
  assert.equal(weights.ino, blob.ino);
  assert.match(ran.stderr, /the free space of .* cannot be seen without --allow-sys=statfs/);
  const before = s.cache.tree();
  assert.equal((await downloadHere(s.hub, folder)).code, 0);
  assert.deepEqual(s.cache.tree(), before);
});
