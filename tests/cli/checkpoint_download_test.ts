// The download command against a hub on loopback: what it asks for, what it leaves on the disk, what it says. One
// file over a bad connection is in hub_blob_test.ts, answers that are refusals in hub_client_test.ts.

import { downloadFileToCacheDir, listFiles, scanCacheDir } from "@huggingface/hub";
import assert from "node:assert/strict";
import {
  assertBytes,
  AUTOENCODER,
  COMMIT,
  contentOf,
  downloadHere,
  gitSha1,
  modelHub,
  ROOT,
  sha256,
  SMALL,
  SNAPSHOT,
  TAKEN,
  TemporaryFolder,
  text,
  WEIGHTS,
} from "./hub_server.ts";

Deno.test("download() puts what a model needs into the shared cache and prints the snapshot's folder", async () => {
  await using s = modelHub();
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(ran.stdout, `${s.cache.path}/${SNAPSHOT}\n`);
  for (const name of TAKEN) {
    assertBytes(`${s.cache.path}/${SNAPSHOT}/${name}`, s.hub.files.get(name)!);
  }
  const large = [AUTOENCODER, WEIGHTS].map(sha256);
  const small = Object.values(SMALL).map(gitSha1);
  assert.deepEqual(
    s.cache.tree(),
    [
      ...new Set([...large, ...small].map((etag) => `${ROOT}/blobs/${etag}`)),
      `${ROOT}/refs/main`,
      ...TAKEN.map((name) => `${SNAPSHOT}/${name}`),
    ].sort(),
  );
  assert.equal(Deno.readTextFileSync(`${s.cache.path}/${ROOT}/refs/main`), COMMIT);
  assert.match(ran.stderr, /left out: model\.safetensors \(one kind of weights is enough/);
  assert.match(ran.stderr, new RegExp(`ready: deno task ask --model ${s.cache.path}`));
});

Deno.test("download() again asks two questions, fetches nothing and changes nothing", async () => {
  await using s = modelHub();
  const first = await s.run();
  const before = s.cache.tree();
  s.hub.seen.length = s.hub.sentBytes = 0;
  const again = await s.run();
  assert.equal(again.code, 0, again.stderr);
  assert.equal(again.stdout, first.stdout);
  assert.deepEqual(s.hub.seen.map(({ path }) => path), [
    "/api/models/org/model/revision/main",
    `/api/models/org/model/tree/${COMMIT}`,
  ]);
  assert.deepEqual(s.cache.tree(), before);

  s.hub.seen.length = 0; // a commit never changes: one question is enough
  assert.equal((await s.run({ args: ["--revision", COMMIT] })).code, 0);
  assert.equal(s.hub.seen.length, 1);
  assert.deepEqual(s.cache.tree(), before); // and needs no ref
});

Deno.test("download() leaves a cache that the hub's library reads as its own", async () => {
  await using s = modelHub();
  assert.equal((await s.run()).code, 0);
  const { repos, warnings } = await scanCacheDir(s.cache.path);
  assert.deepEqual(warnings, []);
  assert.deepEqual(repos[0].id, { name: "org/model", type: "model" });
  assert.deepEqual(repos[0].revisions[0].refs, ["main"]);
  assert.equal(repos[0].revisions[0].files.length, TAKEN.length);

  s.hub.seen.length = 0;
  const found = await downloadFileToCacheDir({
    repo: "org/model",
    path: "ema.safetensors",
    revision: COMMIT,
    hubUrl: s.hub.endpoint,
    cacheDir: s.cache.path,
  });
  assertBytes(found, WEIGHTS);
  assert.deepEqual(s.hub.seen, []);
});

Deno.test("the loopback hub lists files as the hub's library expects", async () => {
  await using s = modelHub();
  s.hub.pageSize = 2;
  const options = { repo: "org/model", revision: COMMIT, recursive: true, hubUrl: s.hub.endpoint };
  const listed = [];
  for await (const entry of listFiles(options)) listed.push(entry.path);
  assert.deepEqual(listed, [...s.hub.files.keys()]);
});

Deno.test("download() reads lists of several pages", async () => {
  await using s = modelHub();
  s.hub.pageSize = 2;
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(s.cache.tree().filter((path) => path.startsWith(SNAPSHOT)).length, TAKEN.length);
});

Deno.test("download() --files takes what the patterns name, from folders too, under any name", async () => {
  await using s = modelHub();
  const odd = "sub/ä b%20#.json";
  s.hub.files.set(odd, text("1"));
  s.hub.files.set("sub/deep/x.json", text("1")); // the same bytes: one blob, two links
  const ran = await s.run({ args: ["--json", "--files", "sub/**,config.json"] });
  assert.equal(ran.code, 0, ran.stderr);
  const names = s.cache.tree().filter((path) => path.startsWith(SNAPSHOT));
  assert.deepEqual(names, ["config.json", "sub/deep/x.json", odd].map((n) => `${SNAPSHOT}/${n}`));
  assert.equal(Deno.readTextFileSync(`${s.cache.path}/${SNAPSHOT}/${odd}`), "1");
  assert.equal(s.hub.deliveries.length, 2);
  const events = ran.stdout.trim().split("\n").map((line) => JSON.parse(line));
  const cached = events.filter(({ event }) => event === "file").map((
    file,
  ) => [file.path, file.cached]);
  assert.deepEqual(cached, [["config.json", false], [odd, false], ["sub/deep/x.json", true]]);
});

Deno.test("download() of a checkpoint in a folder of the repository prints that folder", async () => {
  await using s = modelHub();
  s.hub.files.clear();
  s.hub.files.set("README.md", text("x"));
  s.hub.files.set("ckpt/config.json", text("{}"));
  s.hub.files.set("ckpt/ema.safetensors", WEIGHTS);
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(ran.stdout, `${s.cache.path}/${SNAPSHOT}/ckpt\n`);
});

Deno.test("download() fetches a blob anew whose size is not the one listed", async () => {
  await using s = modelHub();
  assert.equal((await s.run()).code, 0);
  const blob = `${s.cache.path}/${ROOT}/blobs/${sha256(WEIGHTS)}`;
  Deno.truncateSync(blob, 100);
  s.hub.sentBytes = 0;
  assert.equal((await s.run()).code, 0);
  assertBytes(blob, WEIGHTS);
  assert.equal(s.hub.sentBytes, WEIGHTS.length);
});

Deno.test("download() keeps the snapshots of earlier commits and moves the branch", async () => {
  await using s = modelHub();
  assert.equal((await s.run()).code, 0);
  const later = "f".repeat(40);
  const ref = `${s.cache.path}/${ROOT}/refs/main`;
  Deno.writeTextFileSync(ref, later); // as if the branch had been elsewhere
  assert.equal((await s.run()).code, 0);
  assert.equal(Deno.readTextFileSync(ref), COMMIT);
});

Deno.test("download() --json tells the plan, each file and the snapshot, one object a line", async () => {
  await using s = modelHub();
  assert.equal((await s.run({ args: ["--files", "config.json"] })).code, 0);
  const ran = await s.run({ args: ["--json"] });
  const events = ran.stdout.trim().split("\n").map((line) => JSON.parse(line));
  const folder = `${s.cache.path}/${SNAPSHOT}`;
  const bytes = TAKEN.reduce((sum, name) => sum + s.hub.files.get(name)!.length, 0);
  const fetched = bytes - SMALL["config.json"].length;
  const totals = { files: TAKEN.length, bytes };
  const plan = { event: "plan", repo: "org/model", commit: COMMIT, folder, ...totals };
  assert.deepEqual(events[0], { ...plan, bytesToFetch: fetched });
  const files = events.filter(({ event }) => event === "file");
  assert.deepEqual(files.map(({ path }) => path).sort(), TAKEN);
  assert.deepEqual(files.find(({ path }) => path === "config.json"), {
    event: "file",
    path: "config.json",
    bytes: SMALL["config.json"].length,
    cached: true,
  });
  assert.deepEqual(files.find(({ path }) => path === "ema.safetensors"), {
    event: "file",
    path: "ema.safetensors",
    bytes: WEIGHTS.length,
    cached: false,
    resumedFrom: 0,
    receivedBytes: WEIGHTS.length,
    sha256: sha256(WEIGHTS),
  });
  const last = events.at(-2);
  assert.deepEqual(last, {
    event: "snapshot",
    folder,
    commit: COMMIT,
    ...totals,
    bytesReceived: fetched,
  });
  assert.equal(events.at(-1).event, "done");
});

Deno.test("download() without a terminal says every ten seconds how far it is, how fast, and how long still", async () => {
  await using s = modelHub();
  s.hub.files.set("ema.safetensors", contentOf(2_000_000, 5));
  let clock = 0;
  const ran = await s.run({ world: { now: () => clock += 400 } });
  assert.equal(ran.code, 0, ran.stderr);
  const lines = ran.stderr.split("\n").filter((line) => line.startsWith("org/model  "));
  assert.ok(lines.length > 2, ran.stderr);
  const shape =
    /^org\/model {2}\d+\/2009 {2}kB {2}[\w.]+ \d+ % {2}[\d.]+ (bytes|kB|MB)\/s( {2}left \d+ (s|min))?$/;
  for (const line of lines) assert.match(line, shape);
  assert.ok(lines.some((line) => line.includes("left ")));
  assert.match(lines.at(-1)!, /^org\/model {2}2009\/2009 {2}kB/);

  const quiet = new TemporaryFolder();
  const silent = await downloadHere(s.hub, quiet.path, { args: ["--quiet"] });
  assert.equal(silent.stderr, "");
  quiet[Symbol.dispose]();
});
