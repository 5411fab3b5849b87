// --profile on the commands: the table on stderr, the trace in a file, the event; and that results stay as they are.

import assert from "node:assert/strict";
import { PROFILE_FLAGS, profiled, traceBeside, traceFile } from "../../lib/cli/profile_flag.ts";
import { ASK } from "../../lib/cli/verbs/ask.ts";
import { CHAT } from "../../lib/cli/verbs/chat.ts";
import { EDIT } from "../../lib/cli/verbs/edit.ts";
import { GENERATE } from "../../lib/cli/verbs/generate.ts";
import { REPORT } from "../../lib/cli/verbs/report.ts";
import { SEGMENT } from "../../lib/cli/verbs/segment.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Tensor } from "../../lib/tensor.ts";
import type { ChromeTrace } from "../../lib/gpu/trace.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { NO_GPU, runHere, withPlace } from "./verb_world.ts";

const timed = (await testGpu()).device.features.has("timestamp-query");

/** A test that profiles. */
const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({
    name: name + (timed ? "" : " (skipped: this adapter has no timestamps)"),
    ignore: !timed,
    ...GPU_TEST,
    fn,
  });

/** A world that opens devices as they are asked for. */
const OPEN = { openGpu: openDevice, closeGpu: (gpu: { close(): void }) => gpu.close() };

const traceAt = async (path: string): Promise<ChromeTrace> =>
  JSON.parse(await Deno.readTextFile(path));

/** Names of the device's commands in a trace. */
const commandsOf = ({ traceEvents }: ChromeTrace) =>
  traceEvents.filter(({ ph, tid }) => ph === "X" && tid === 1).map(({ name }) => name);

test("generate --profile draws as without, prints the table and writes the trace beside --out", () =>
  withPlace(async (place) => {
    const args = ["--model", place.model, "bright", "--steps", "3", "--size", "16"];
    const out = place.path("new/drawn.png");
    const said = await runHere(GENERATE, [...args, "--out", out, "--profile"], OPEN);
    assert.equal(said.code, 0, said.stderr);
    assert.equal(said.stdout, `${out}\n`);
    assert.match(
      said.stderr,
      /\nprofile: \d+ commands, [\d.]+ s of [\d.]+ s on .*\nTimed one by one, .*slower.*\n.*\nkernel +calls +ms +first runs +GFLOP\/s +GB\/s +share\n/,
    );
    assert.match(said.stderr, /\nmatmul\w* +\d+ +[\d.]+ +[\d.]+ +[\d.–]+ +[\d.–]+ +[\d.]+ %\n/);
    const trace = place.path("new/drawn.profile.json");
    assert.ok(said.stderr.endsWith(`\ntrace in ${trace}\n`), said.stderr);
    const commands = commandsOf(await traceAt(trace));
    assert.ok(commands.some((name) => name.startsWith("matmul")), commands.join(", "));
    const plain = place.path("plain.png");
    assert.equal((await runHere(GENERATE, [...args, "--out", plain])).code, 0);
    assert.deepEqual(await Deno.readFile(out), await Deno.readFile(plain));
  }));

test("ask --profile-out --json emits the event profile and nothing more on stdout", () =>
  withPlace(async (place) => {
    const trace = place.path("trace.json");
    const args = ["--model", place.model, place.path("a.png"), "what ?", "--max-tokens", "2"];
    const said = await runHere(ASK, [...args, "--profile-out", trace, "--json", "--quiet"], OPEN);
    assert.equal(said.code, 0, said.stderr);
    assert.equal(said.stderr, "");
    const events = said.events();
    assert.deepEqual([...new Set(events.map(({ event }) => event))], [
      "text",
      "answer",
      "profile",
      "done",
    ]);
    const told = events.find(({ event }) => event === "profile")!;
    const rows = told.rows as { label: string; calls: number; share: number }[];
    assert.deepEqual([told.trace, told.untimed, told.leftOut], [trace, 0, 0]);
    const commands = commandsOf(await traceAt(trace));
    assert.equal(rows.reduce((n, { calls }) => n + calls, 0), commands.length);
    assert.deepEqual(rows.map(({ label }) => label).sort(), [...new Set(commands)].sort());
    assert.ok(Math.abs(rows.reduce((n, { share }) => n + share, 0) - 1) < 1e-9);
  }));

test("profiled() tells of work that was interrupted, and of none that failed", async () => {
  const dir = await Deno.makeTempDir({ prefix: "oka-profile-" });
  const gpu = await openDevice({ budgetBytes: 2 ** 24, profile: true });
  try {
    const stop = new AbortController();
    const notes: string[] = [];
    const context = {
      signal: stop.signal,
      note: (text: string) => void notes.push(text),
      emit: () => {},
    };
    const fail = (path: string) =>
      profiled(context, gpu, path, () => {
        gpu.clear(Tensor.empty(gpu, [4]).buffer);
        return Promise.reject(new Error("no"));
      });
    await assert.rejects(() => fail(`${dir}/failed.json`), /^Error: no$/);
    assert.deepEqual(notes, []);
    stop.abort();
    await assert.rejects(() => fail(`${dir}/stopped.json`), /^Error: no$/);
    assert.match(notes[0], /^profile: 2 commands, .*\nclear +2 /s);
    assert.deepEqual(commandsOf(await traceAt(`${dir}/stopped.json`)), ["clear", "clear"]);
    assert.deepEqual((await Array.fromAsync(Deno.readDir(dir))).map((e) => e.name), [
      "stopped.json",
    ]);
  } finally {
    gpu.close();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("traceBeside() names the trace after --out", () => {
  assert.deepEqual(
    ["a.png", "x.y/answer", "x/.hidden", "../r/a.b.txt", undefined].map(traceBeside),
    [
      "a.profile.json",
      "x.y/answer.profile.json",
      "x/.hidden.profile.json",
      "../r/a.b.profile.json",
      "results/profile.json",
    ],
  );
});

Deno.test("traceFile() is undefined unless asked, and refuses what is no JSON or cannot be written", async () => {
  const dir = await Deno.makeTempDir({ prefix: "oka-profile-" });
  try {
    const of = (profile: boolean, profileOut?: string) =>
      traceFile({ profile, profileOut }, `${dir}/beside.json`);
    assert.equal(await of(false), undefined);
    assert.equal(await of(true), `${dir}/beside.json`);
    assert.equal(await of(false, `${dir}/new/t.json`), `${dir}/new/t.json`);
    await assert.rejects(() => of(true, `${dir}/t.txt`), {
      name: "UsageError",
      message: `Cannot write to ${dir}/t.txt: a trace is JSON`,
      help: "give a name that ends in .json",
    });
    await Deno.mkdir(`${dir}/folder.json`);
    await assert.rejects(() => of(true, `${dir}/folder.json`), /it is a folder/);
    await Deno.writeTextFile(`${dir}/file`, "");
    await assert.rejects(() => of(true, `${dir}/file/t.json`), { name: "UsageError" });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("every verb has the flags, and refuses a trace that cannot be before it opens a device", () =>
  withPlace(async (place) => {
    for (const { spec } of [ASK, CHAT, EDIT, GENERATE, REPORT, SEGMENT]) {
      for (const name of Object.keys(PROFILE_FLAGS)) assert.ok(name in spec.flags, spec.name);
    }
    const args = ["--model", place.model, "x", "--profile-out", "trace.txt"];
    const said = await runHere(ASK, args, NO_GPU);
    assert.equal(said.code, 2);
    assert.match(said.stderr, /^error: Cannot write to trace\.txt: a trace is JSON\nhelp: /);
  }));
