// The demo as a user runs it: a process of its own with the permissions of its task, very small.

import assert from "node:assert/strict";

const ROOT = new URL("../..", import.meta.url);
const OUT = "results/test-demo";
const SMALL = "steps=3,images=4,drawings=4,tests=40,probes=60,labelled=40,generated=40," +
  "gate.pictures=8,gate.points=3";

/** The task's own flags, from deno.json. */
async function taskFlags(): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const words: string[] = tasks.demo.command.split(" ");
  return words.slice(words.indexOf("run") + 1, words.indexOf("experiments/demo.ts"));
}

async function demo(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["run", ...await taskFlags(), "experiments/demo.ts", ...args],
    cwd: ROOT,
    env: { XDG_RUNTIME_DIR: "/tmp" },
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

async function remove(path: string): Promise<void> {
  await Deno.remove(new URL(path, ROOT), { recursive: true }).catch((cause) => {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
  });
}

/** Cells of a printed row, by the words it starts with. */
function row(text: string, start: string): string[] {
  const line = text.split("\n").find((l) => l.startsWith(start));
  assert.ok(line, `no line starts with "${start}" in:\n${text}`);
  return line.split(/ {2,}/);
}

Deno.test("demo: matched arms, routes, tables, files; a finished arm is used again", async () => {
  await remove(OUT);
  try {
    const first = await demo("--out", OUT, "--set", SMALL);
    assert.equal(first.code, 0, first.stderr);
    assert.equal(first.stdout.trimEnd().split("\n").at(-1), `${OUT}/demo.html`);

    const [, vit, connector, , und] = row(first.stderr, "text → image  ");
    assert.deepEqual([vit, connector], ["0", "0"], "no image token is in context");
    assert.notEqual(und, "0");
    assert.deepEqual(row(first.stderr, "image → image, blocked").slice(1, 5), ["0", "0", "0", "0"]);
    assert.notEqual(row(first.stderr, "image → image  ")[1], "0");

    const [planted, natural] = first.stdout.split("natural world: given");
    const given = (part: string, arm: string) => row(part, `${arm} `).slice(1, 5);
    assert.deepEqual(given(planted, "joint"), given(planted, "und"));
    assert.deepEqual(given(planted, "blocked"), given(planted, "und"));
    assert.deepEqual(given(natural, "joint"), given(natural, "und"));
    const accuracy = first.stdout.slice(first.stdout.indexOf("planted world: accuracy"));
    assert.deepEqual(row(accuracy, "blocked ").slice(1), row(accuracy, "und ").slice(1));
    assert.match(row(accuracy, "joint − und")[1], /inconclusive: generation not learned/);
    assert.match(first.stdout, /note: fewer than 200 steps/);

    const file = (name: string) => Deno.readTextFile(new URL(`${OUT}/${name}`, ROOT));
    const { values, origins } = JSON.parse(await file("config.json"));
    assert.equal(values.steps, 3);
    assert.equal(origins.steps, "--set");
    const rows = (await file("metrics.csv")).trim().split("\n");
    assert.equal(rows.length, 1 + 3 * 5, "three steps of five trained arms");
    const { caption } = JSON.parse(await file("demo.json"));
    for (const fact of [/n = 40 /, /1 seed \(0\)/, /3 steps per arm/, /commit/, /initialization/]) {
      assert.match(caption, fact);
    }
    for (const name of ["demo.html", "demo.svg", "demo.csv"]) {
      assert.ok((await file(name)).length > 500);
    }

    const again = await demo("--out", OUT, "--set", SMALL, "--resume", "--profile");
    assert.equal(again.code, 0, again.stderr);
    assert.equal(again.stderr.match(/kept from/g)?.length, 7);
    assert.equal(
      again.stdout.slice(again.stdout.indexOf("accuracy %")),
      first.stdout.slice(first.stdout.indexOf("accuracy %")),
    );
    assert.match(again.stderr, /^profile: \d+ commands, .*(\n.*)*\nmatmul/m);
    const { traceEvents } = JSON.parse(await file("profile.json"));
    assert.ok(traceEvents.some(({ name }: { name: string }) => name.startsWith("matmul")));
  } finally {
    await remove(OUT);
  }
});

Deno.test("demo: what cannot work is refused in one line, before anything is written", async () => {
  const cases: [args: string[], code: number, said: RegExp][] = [
    [["--set", "nope=1"], 2, /^error: Cannot use --set: unknown field nope\nhelp: /m],
    [
      ["--set", "steps=-3"],
      2,
      /^error: Cannot run the demo: steps is -3\nhelp: set steps to a whole number/m,
    ],
    [["--set", "gate.points=1.5"], 2, /^error: Cannot run the demo: gate.points is 1.5\nhelp: /m],
    [["--set", "starved=500"], 2, /^error: Cannot run the demo: starved is 500\nhelp: /m],
    [
      ["--out", "/tmp/oka-elsewhere"],
      2,
      /^error: Cannot write to \/tmp\/oka-elsewhere: .*\nhelp: /m,
    ],
    [
      ["--data", "results/no-such-folder"],
      3,
      /^error: Cannot read data folder results\/no-such-folder: .*\nhelp: /m,
    ],
    [
      ["--profile-out", "/tmp/oka.json"],
      2,
      /^error: Cannot write to \/tmp\/oka\.json: .*\nhelp: /m,
    ],
    [["--bogus"], 2, /^error: Cannot understand --bogus: there is no such flag\nhelp: /m],
  ];
  for (const [args, code, said] of cases) {
    const result = await demo(...args, ...(args.includes("--out") ? [] : ["--out", OUT]));
    assert.equal(result.code, code, result.stderr);
    assert.match(result.stderr, said);
    assert.doesNotMatch(result.stderr, /\n\s+at /, "no stack");
    assert.equal(result.stdout, "");
  }
  const left = await Array.fromAsync(Deno.readDir(new URL(`${OUT}/`, ROOT)), (e) => e.name)
    .catch(() => []);
  assert.deepEqual(left.filter((name) => name !== "lock"), []);
  await remove(OUT);
});
