import assert from "node:assert/strict";
import { type CommandSpec, type Main, runCommand, type Shell } from "../../lib/cli/command.ts";
import { bytesFrom, type Flags, nearest, readFlags } from "../../lib/cli/flags.ts";
import { InputError, ResourceError, UsageError } from "../../lib/errors.ts";

const FLAGS = {
  steps: { type: "integer", default: 400, unit: "steps", min: 1, help: "optimizer steps per arm" },
  saveEvery: { type: "integer", unit: "steps", help: "checkpoint interval" },
  lr: { type: "number", default: 1e-3, help: "peak learning rate" },
  arms: { type: "list", choices: ["und", "joint"], default: ["und", "joint"], help: "arms to run" },
  adapter: { type: "string", choices: ["any", "gpu"], default: "any", help: "which adapter" },
  budget: { type: "bytes", default: 4e9, unit: "bytes", help: "device memory" },
  dryRun: { type: "boolean", help: "say what would run" },
} as const satisfies Flags;

const SPEC: CommandSpec<typeof FLAGS> = {
  name: "study",
  purpose: "Trains matched arms and compares them.",
  usage: "NAME [flags]",
  flags: FLAGS,
  examples: [["deno task study plant --steps 20", "a short run"], ["deno task study", "the list"]],
  exitCodes: { 3: "bad input" },
  positionals: { min: 0, max: 1, names: ["NAME"] },
};

/** Runs a command against a shell of strings. */
async function runHere(args: string[], main: Main<typeof FLAGS>, options: Partial<Shell> = {}) {
  const seen = { stdout: "", stderr: "", codes: [] as number[] };
  const hooks: { signal?: (s: "SIGINT" | "SIGTERM") => void; stray?: (e: unknown) => void } = {};
  const shell: Shell = {
    args,
    stdout: (text) => void (seen.stdout += text),
    stderr: (text) => void (seen.stderr += text),
    terminal: false,
    noColor: false,
    exit: (code) => void seen.codes.push(code),
    onSignal: (listener) => hooks.signal = listener,
    onStray: (listener) => hooks.stray = listener,
    ...options,
  };
  await runCommand(SPEC, (context) => main(Object.assign(context, { hooks })), shell);
  return seen;
}

const hooksOf = (context: object) =>
  (context as { hooks: { signal(s: "SIGINT" | "SIGTERM"): void; stray(e: unknown): void } }).hooks;

Deno.test("runCommand() gives typed flags, defaults, positionals and which flags were typed", async () => {
  const args = ["plant", "--steps", "20", "--arms=und", "--budget", "2GiB", "--dry-run"];
  const seen = await runHere(args, (c) => {
    const steps: number = c.flags.steps;
    const every: number | undefined = c.flags.saveEvery;
    const arms: ("und" | "joint")[] = c.flags.arms;
    assert.deepEqual([steps, every, arms], [20, undefined, ["und"]]);
    assert.deepEqual([c.flags.lr, c.flags.budget, c.flags.dryRun], [1e-3, 2 ** 31, true]);
    assert.deepEqual(c.args, ["plant"]);
    assert.deepEqual([...c.given].sort(), ["arms", "budget", "dryRun", "steps"]);
    c.print("result");
    c.emit({ event: "step" });
    c.note("note");
  });
  assert.deepEqual(seen, { stdout: "result\n", stderr: "note\n", codes: [0] });
});

Deno.test("runCommand() prints only JSON lines on stdout with --json, ending in done or error", async () => {
  const seen = await runHere(["--json", "--quiet"], (c) => {
    c.print("for people");
    c.emit({ event: "step", step: 1 });
    c.note("note");
    c.warn("low disk");
    return 3;
  });
  const lines = seen.stdout.trim().split("\n").map((l) => JSON.parse(l));
  assert.deepEqual(lines[0], { event: "step", step: 1 });
  assert.equal(lines[1].event, "done");
  assert.equal(lines[1].exitCode, 3);
  assert.equal(seen.stderr, "warning: low disk\n");
  assert.deepEqual(seen.codes, [3]);

  const failed = await runHere(["--json"], () => {
    throw new InputError("Cannot read x", { help: "look" });
  });
  assert.deepEqual(JSON.parse(failed.stdout), {
    event: "error",
    message: "Cannot read x",
    help: "look",
    exitCode: 3,
  });
  const usage = await runHere(["--json", "--stps=1"], () => assert.fail());
  assert.equal(JSON.parse(usage.stdout).exitCode, 2);
});

const USAGE: [string[], string][] = [
  [["--stps", "3"], "Cannot understand --stps: there is no such flag\nhelp: did you mean --steps?"],
  [
    ["--zzzzzzzz"],
    "Cannot understand --zzzzzzzz: there is no such flag\nhelp: --help lists the flags",
  ],
  [["--steps", "many"], "Cannot read --steps many: expected a number"],
  [["--steps", "1.5"], "Cannot read --steps 1.5: expected a whole number"],
  [["--steps", "0"], "Cannot read --steps 0: expected at least 1"],
  [["--steps"], 'Cannot read --steps "": expected a value (steps)'],
  [["--steps", "1", "--steps", "2"], "Cannot use --steps 2 times: it takes one value"],
  [["--arms", "und,jiont"], "Cannot read --arms und,jiont: expected und, joint"],
  [["--adapter", "cuda"], "Cannot read --adapter cuda: expected any or gpu"],
  [["--budget", "much"], "Cannot read --budget much: expected a size such as 4GB or 512MB"],
  [["a", "b"], "Cannot run study: unexpected argument b"],
  [["plant", "steps"], "Cannot run study: unexpected argument steps\nhelp: did you mean --steps?"],
];
for (const [args, message] of USAGE) {
  Deno.test(`runCommand() refuses ${args.join(" ")} with exit code 2`, async () => {
    const seen = await runHere(args, () => assert.fail("main ran"));
    assert.ok(seen.stderr.startsWith(`error: ${message}`), seen.stderr);
    assert.equal(seen.stdout, "");
    assert.deepEqual(seen.codes, [2]);
  });
}

Deno.test("runCommand() shows purpose, defaults with units, examples and exit codes for --help", async () => {
  for (const flag of ["--help", "-h"]) {
    const { stdout, codes } = await runHere([flag], () => assert.fail("main ran"));
    assert.match(stdout, /^Trains matched arms and compares them\.\n\nusage: deno task study NAME/);
    assert.match(stdout, /--steps steps +optimizer steps per arm \(default 400 steps\)/);
    assert.match(stdout, /--save-every steps +checkpoint interval\n/);
    assert.match(stdout, /--arms und\|joint +arms to run \(default und,joint\)/);
    assert.match(stdout, /--no-color/);
    assert.match(stdout, /deno task study plant --steps 20 +a short run\n/);
    assert.match(stdout, / 3 +bad input\n/);
    assert.deepEqual(codes.slice(0, 1), [0]);
  }
});

Deno.test("runCommand() ends lab errors without a stack and other errors with one", async () => {
  const lab = await runHere(
    [],
    () => Promise.reject(new ResourceError("Cannot fit", { help: "less" })),
  );
  assert.deepEqual(lab, { stdout: "", stderr: "error: Cannot fit\nhelp: less\n", codes: [4] });
  const verbose = await runHere(["--verbose"], () => Promise.reject(new UsageError("Cannot")));
  assert.match(verbose.stderr, /command_test\.ts/);
  const other = await runHere([], () => Promise.reject(new TypeError("internal: oops")));
  assert.match(other.stderr, /^error: internal: oops\nTypeError: internal: oops\n +at /);
  assert.deepEqual(other.codes, [1]);
});

Deno.test("runCommand() colours errors only on a terminal without NO_COLOR or --no-color", async () => {
  const fail = () => Promise.reject(new InputError("Cannot"));
  const red = "\x1b[31merror:\x1b[0m Cannot\n";
  assert.equal((await runHere([], fail, { terminal: true })).stderr, red);
  const plain = "error: Cannot\n";
  assert.equal((await runHere([], fail, { terminal: true, noColor: true })).stderr, plain);
  assert.equal((await runHere(["--no-color"], fail, { terminal: true })).stderr, plain);
});

Deno.test("runCommand() aborts on the first signal, exits at once on the second", async () => {
  const once = await runHere([], (c) => {
    hooksOf(c).signal("SIGTERM");
    assert.ok(c.signal.aborted);
  });
  assert.deepEqual(once.codes, [143]);
  const twice = await runHere([], (c) => {
    hooksOf(c).signal("SIGINT");
    hooksOf(c).signal("SIGINT");
    c.signal.throwIfAborted();
  });
  assert.deepEqual(twice.codes, [130, 130]);
  const wrapped = await runHere([], (c) => {
    hooksOf(c).signal("SIGINT");
    throw new DOMException("The signal has been aborted", "AbortError");
  });
  assert.deepEqual(wrapped.codes, [130]);
});

Deno.test("runCommand() ends with 1 and the message when nobody awaits an error", async () => {
  const seen = await runHere([], (c) => hooksOf(c).stray(new Error("lost promise")));
  assert.match(seen.stderr, /^error: lost promise\n/);
  assert.equal(seen.codes[0], 1);
});

/** Runs a script that uses the real shell; `script` is the body of main. */
function child(body: string, args: string[] = []): Deno.ChildProcess {
  const command = new URL("../../lib/cli/command.ts", import.meta.url).href;
  const code = `import { runCommand } from ${JSON.stringify(command)};
    await runCommand({ name: "x", purpose: "p", usage: "", flags: {}, examples: [] },
      async (context) => { ${body} });`;
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const flags = ["eval", "--config", config, code, ...args];
  return new Deno.Command("deno", { args: flags, stdout: "piped", stderr: "piped" }).spawn();
}

Deno.test("a command stops on a real SIGINT with 130 and keeps its output", async () => {
  const process = child(`
    const tick = setInterval(() => {}, 1000);
    context.signal.addEventListener("abort", () => { context.print("saved"); clearInterval(tick); });
    context.print("started");
    await new Promise((done) => context.signal.addEventListener("abort", done));`);
  const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("started")) text += (await reader.read()).value;
  const started = performance.now();
  process.kill("SIGINT");
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  const { code } = await process.status;
  await process.stderr.cancel();
  assert.equal(code, 130);
  assert.equal(text, "started\nsaved\n");
  assert.ok(performance.now() - started < 1000);
});

Deno.test("a command whose timer throws or whose promise is forgotten exits 1 with the message", async () => {
  for (
    const fault of [
      "setTimeout(() => { throw new Error('late'); }, 1);",
      "Promise.reject(new Error('late'));",
    ]
  ) {
    const { code, stderr } = await child(`${fault} await new Promise((r) => setTimeout(r, 2000));`)
      .output();
    assert.equal(code, 1);
    assert.match(new TextDecoder().decode(stderr), /^error: late\n/);
  }
});

Deno.test("bytesFrom() reads decimal and binary units", () => {
  assert.deepEqual(["4GB", "512MB", "1GiB", "1.5k", "1000", "2 g"].map(bytesFrom), [
    4e9,
    512e6,
    2 ** 30,
    1500,
    1000,
    2e9,
  ]);
  assert.ok(["", "GB", "-1", "4XB", "1e9"].map(bytesFrom).every(Number.isNaN));
});

Deno.test("nearest() finds close names and nothing else", () => {
  assert.equal(nearest("stesp", ["steps", "seeds"]), "steps");
  assert.equal(nearest("banana", ["steps", "seeds"]), undefined);
});

Deno.test("readFlags() lets --no-x switch a default off", () => {
  const flags = { save: { type: "boolean", default: true, help: "" } } as const;
  assert.equal(readFlags(["--no-save"], flags).values.save, false);
  assert.equal(readFlags([], flags).values.save, true);
});
