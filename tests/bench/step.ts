// A whole training step of the demo model against its parts: the sum of its kernels' best isolated times, the host's
// time per dispatch, and the time from an empty process to the first finished step, with and without a cache of
// compiled pipelines.

import { ARMS, DEFAULTS } from "../../experiments/demo/config.ts";
import { objectivesOf } from "../../experiments/demo/arm.ts";
import { startModel } from "../../experiments/demo/run.ts";
import { phantomWorld } from "../../experiments/demo/world.ts";
import { type CommandSpec, type Context, runCommand } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { EXIT } from "../../lib/errors.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { readCommit } from "../../lib/study/provenance.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { type StepMetrics, trainStep } from "../../lib/train/step.ts";
import { fixedWait, median } from "./measure.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const SCRIPT = new URL(import.meta.url).pathname;

/** Of the processes whose start is timed. */
const PERMISSIONS = ["--allow-read", "--allow-ffi=node_modules", "--allow-sys=cpus", "--allow-env"];

const FLAGS = {
  steps: { type: "integer", default: 12, min: 3, help: "steps of each kind" },
  "first-only": {
    type: "boolean",
    help: "one step, and the milliseconds it took (what --start runs)",
  },
  start: { type: "boolean", help: "also time first steps in processes of their own" },
} as const satisfies Flags;

const SPEC = {
  name: "bench:step",
  purpose:
    "Compares a training step with the sum of its kernels, and times the host and the start.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [["deno task bench:step --start", "everything"]],
  exitCodes: { 1: "a loss was not finite" },
} as const satisfies CommandSpec<typeof FLAGS>;

/** One step that can be repeated: the joint arm's first batch, over and over. */
async function stepper(gpu: Gpu): Promise<() => StepMetrics> {
  const world = phantomWorld("natural", DEFAULTS);
  const model = await startModel(gpu, world, DEFAULTS);
  const optimizer = new AdamW(model.parameters);
  const objectives = objectivesOf(ARMS.joint, world, DEFAULTS, 0);
  const clip = { maxNorm: 1, over: "objective" } as const;
  return () => trainStep(model, optimizer, objectives, { learningRate: 1e-4, clip });
}

interface StepTimes {
  /** Wall milliseconds, the fixed wait taken off. */
  wallMs: number[];
  /** Milliseconds of the host outside of `submit`: software adapters compute inside it. */
  hostMs: number[];
  dispatches: number;
}

async function timeSteps(gpu: Gpu, step: () => StepMetrics, count: number): Promise<StepTimes> {
  let submitMs = 0;
  const { queue } = gpu.device;
  for (const name of ["submit", "writeBuffer"] as const) {
    const call = queue[name].bind(queue) as (...args: unknown[]) => void;
    Object.assign(queue, {
      [name]: (...args: unknown[]) => {
        const start = performance.now();
        call(...args);
        submitMs += performance.now() - start;
      },
    });
  }
  const waitMs = await fixedWait(() => gpu.settle());
  const times: StepTimes = { wallMs: [], hostMs: [], dispatches: 0 };
  for (let i = 0; i < count; i++) {
    await gpu.settle();
    const [start, dispatched] = [performance.now(), gpu.dispatches];
    submitMs = 0;
    const metrics = step();
    gpu.flush();
    times.hostMs.push(performance.now() - start - submitMs);
    await gpu.settle();
    times.wallMs.push(performance.now() - start - waitMs);
    times.dispatches = gpu.dispatches - dispatched;
    const [text] = await metrics.get("text")!.floats();
    if (!Number.isFinite(text)) throw new Error(`the loss of step ${i} is ${text}`);
    for (const tensor of metrics.values()) tensor.dispose();
  }
  return times;
}

/** For every command of a step the best of several steps, in milliseconds. */
async function bestIsolated(
  gpu: Gpu,
  step: () => StepMetrics,
  count: number,
): Promise<{ label: string; ms: number }[]> {
  const profile = gpu.profile!;
  let best: { label: string; ms: number }[] = [];
  for (let i = 0; i < count; i++) {
    await gpu.settle();
    const mark = profile.mark();
    for (const tensor of step().values()) tensor.dispose();
    await gpu.settle();
    const calls = await profile.sequence(mark);
    const times = calls.map(({ label, milliseconds }) => ({ label, ms: milliseconds }));
    if (i < 2) best = times; // the first step makes moments, and compiles
    else best = times.map(({ label, ms }, j) => ({ label, ms: Math.min(ms, best[j]?.ms ?? ms) }));
  }
  return best;
}

/** Milliseconds of the first step, and from the start of the process to its end. */
interface FirstStep {
  firstMs: number;
  processMs: number;
}

async function firstStep(): Promise<FirstStep> {
  const gpu = await openDevice();
  const step = await stepper(gpu);
  const start = performance.now();
  const metrics = step();
  await gpu.settle();
  const firstMs = performance.now() - start;
  for (const tensor of metrics.values()) tensor.dispose();
  gpu.close();
  return { firstMs, processMs: performance.now() };
}

/** First steps in new processes: without compiled pipelines on disk, then with those of the one before. */
async function starts(): Promise<{ cold: FirstStep; warm: FirstStep }> {
  const cache = await Deno.makeTempDir();
  const run = async () => {
    const { success, stdout, stderr } = await new Deno.Command("deno", {
      args: ["run", "--no-prompt", ...PERMISSIONS, SCRIPT, "--first-only", "--json"],
      env: { MESA_SHADER_CACHE_DIR: cache, XDG_RUNTIME_DIR: "/tmp" },
      cwd: ROOT,
    }).output();
    const text = new TextDecoder().decode(stdout);
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    const line = text.split("\n").find((l) => l.includes('"first step"'));
    return JSON.parse(line!) as FirstStep;
  };
  try {
    return { cold: await run(), warm: await run() };
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

async function main(context: Context<typeof FLAGS>): Promise<number> {
  const { flags, print, emit, note } = context;
  if (flags["first-only"]) {
    emit({ event: "first step", ...await firstStep() });
    return EXIT.done;
  }
  const plain = await openDevice();
  note(plain.adapter.name);
  const times = await timeSteps(plain, await stepper(plain), flags.steps);
  plain.close();
  const timed = await openDevice({ profile: true });
  const kernels = await bestIsolated(timed, await stepper(timed), flags.steps);
  timed.close();

  const wall = median(times.wallMs.slice(2));
  const host = median(times.hostMs.slice(2));
  const sum = kernels.reduce((total, { ms }) => total + ms, 0);
  const copies = kernels.filter(({ label }) => /copy|clear|read/.test(label));
  const perDispatch = 1000 * host / times.dispatches;
  print(`step: ${wall.toFixed(0)} ms, ${times.dispatches} dispatches`);
  print(
    `sum of the best isolated times: ${sum.toFixed(0)} ms, of which copies and clears ` +
      `${copies.reduce((total, { ms }) => total + ms, 0).toFixed(0)} ms`,
  );
  const bare = copies.reduce((total, { ms }) => total - ms, sum);
  print(
    `share: ${(100 * sum / wall).toFixed(0)} % (wanted 75 %), ${
      (100 * bare / wall).toFixed(0)
    } % ` +
      "without copies and clears",
  );
  print(`host, outside of submit: ${perDispatch.toFixed(1)} µs per dispatch (wanted 15 µs)`);
  const start = flags.start ? await starts() : undefined;
  for (const [name, { firstMs, processMs }] of Object.entries(start ?? {})) {
    const wanted = name === "cold" ? 12 : 3;
    print(
      `first step, ${name}: ${(firstMs / 1000).toFixed(1)} s (wanted ${wanted} s), ` +
        `${(processMs / 1000).toFixed(1)} s after the process began`,
    );
  }
  const date = new Date().toISOString().slice(0, 10);
  print(`${timed.adapter.name}, ${date}, commit ${readCommit(ROOT)?.slice(0, 7) ?? "unknown"}`);
  emit({ event: "step", wall, sum, host, dispatches: times.dispatches, start: start ?? null });
  return EXIT.done;
}

if (import.meta.main) await runCommand(SPEC, main);
