// Ours against two other WebGPU engines in JavaScript, in one process and on one adapter: matrix products, softmax and
// RMSNorm both ways, and a transformer block both ways. In every round the engines take turns; after every sample the
// outputs are compared with the host's, and a rate that the adapter cannot reach counts as a broken measurement.

import { type CommandSpec, type Context, runCommand } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { EXIT, ResourceError } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { elapsed, fixedWait, fmaCeiling, median, repeatsFor, takeTurns } from "./measure.ts";
import { type Case, cases } from "./peers_cases.ts";
import type { Engine, Job } from "./peers_engine.ts";
import { ourEngine } from "./peers_ours.ts";
import { type Circumstances, digits, rate, rejectAbove, report, type Row } from "./peers_report.ts";

const FLAGS = {
  quick: { type: "boolean", help: "fewer shapes and 3 rounds" },
  rounds: {
    type: "integer",
    min: 1,
    unit: "rounds",
    help: "samples per engine (5; with --quick 3)",
  },
  only: {
    type: "list",
    choices: ["matmul", "norm", "block"],
    default: ["matmul", "norm", "block"],
    help: "some of the groups",
  },
} as const satisfies Flags;

const SPEC = {
  name: "bench:peers",
  purpose: "Compares our ops with TensorFlow.js and jax-js on this adapter, outputs checked.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [
    ["deno task bench:peers", "all shapes, five rounds: minutes where an engine is slow"],
    ["deno task bench:peers --quick --only matmul", "a few products"],
  ],
  exitCodes: { 1: "an output was wrong, or a rate impossible" },
} as const satisfies CommandSpec<typeof FLAGS>;

/** A sample repeats short work for about so long. */
const SAMPLE_MS = 80;
const MOST_REPEATS = 2000;

/** An engine with its fixed wait. */
interface Contender {
  engine: Engine;
  waitMs: number;
}

/**
 * The other engines. Their packages are large and locked apart (peers.lock): loaded by computed names, they are no part
 * of what the rest of the repository installs.
 */
async function peers(): Promise<Engine[]> {
  const engines: Engine[] = [];
  for (const name of ["tfjs", "jax"]) {
    const module: { engine: () => Promise<Engine> } = await import(
      new URL(`./peers_${name}.ts`, import.meta.url).href
    );
    engines.push(await module.engine());
  }
  return engines;
}

async function main(context: Context<typeof FLAGS>): Promise<number> {
  const { flags, note, signal } = context;
  const gpu = await openDevice();
  const measured = await commit();
  let ceiling = (await fmaCeiling(gpu)).gflops;
  note(`${gpu.adapter.name}: multiply-adds reach ${ceiling.toFixed(1)} GFLOP/s`);
  const raiseCeiling = async () => {
    ceiling = Math.max(ceiling, (await fmaCeiling(gpu)).gflops);
  };

  const contenders: Contender[] = [];
  for (const engine of [ourEngine(gpu), ...await peers()]) {
    requireAdapter(engine, contenders[0]?.engine);
    contenders.push({ engine, waitMs: await fixedWait(() => engine.settle()) });
  }
  const rows: Row[] = [];
  for (const { group, make } of cases(flags.quick)) {
    signal.throwIfAborted();
    if (!flags.only.includes(group)) continue;
    const test = make();
    const row = await compare(test, contenders, flags.rounds ?? (flags.quick ? 3 : 5), signal);
    rows.push(row);
    const fastest = Math.max(...Object.keys(row.samples).map((name) => rate(row, name)));
    if (fastest > ceiling) await raiseCeiling(); // the machine may have been busy when it was measured
    const times = Object.entries(row.samples).map(([name, ms]) => `${name} ${digits(median(ms))}`);
    note(`${test.name}: ${times.join(", ")} ms`);
    for (const [name, reason] of Object.entries(row.wrong)) {
      context.warn(`${test.name}, ${name}: ${reason}`);
    }
  }

  await raiseCeiling();
  rejectAbove(rows, ceiling);
  const facts: Circumstances = {
    adapter: gpu.adapter.name,
    runtime: `Deno ${Deno.version.deno}`,
    date: new Date().toISOString().slice(0, 10),
    commit: measured,
    ceiling,
    engines: contenders.map(({ engine: { name, way } }) => ({ name, way })),
  };
  report(context, rows, facts);
  for (const { engine } of contenders) engine.close();
  gpu.close();
  return rows.some((row) => Object.keys(row.wrong).length > 0) ? EXIT.fault : EXIT.done;
}

function requireAdapter({ name, adapter }: Engine, ours: Engine | undefined): void {
  if (ours === undefined || adapter === ours.adapter) return;
  throw new ResourceError(
    `Cannot compare with ${name}: it runs on ${adapter}, ours on ${ours.adapter}`,
    { help: "leave one adapter visible to this process" },
  );
}

/** Samples one case on every engine. One whose outputs are wrong drops out, and the row says why. */
async function compare(
  test: Case,
  contenders: readonly Contender[],
  rounds: number,
  signal: AbortSignal,
): Promise<Row> {
  const row: Row = { name: test.name, group: test.group, flop: test.flop, samples: {}, wrong: {} };
  const jobs = new Map<Contender, { job: Job; repeats: number }>();
  const verify = async ({ engine }: Contender, job: Job) => {
    const wrong = test.check(await job.read()) ?? engine.errors[0];
    if (wrong !== undefined) row.wrong[engine.name] ??= wrong;
    engine.errors.length = 0;
  };
  for (const contender of contenders) {
    const { engine, waitMs } = contender;
    const job = engine.prepare(test.work, test.inputs);
    const timed = { launch: () => job.launch(), settle: () => engine.settle() };
    jobs.set(contender, { job, repeats: 1 });
    try {
      const first = await elapsed(timed, 1, waitMs); // with compilation
      await verify(contender, job);
      if (first > 20 * SAMPLE_MS) continue;
      const repeats = await repeatsFor(timed, waitMs, SAMPLE_MS, MOST_REPEATS);
      jobs.set(contender, { job, repeats });
    } catch (error) {
      row.wrong[engine.name] = error instanceof Error ? error.message : String(error);
    }
  }
  const fit = contenders.filter(({ engine }) => row.wrong[engine.name] === undefined);
  const samples = await takeTurns(fit, rounds, async (contender) => {
    signal.throwIfAborted();
    const { job, repeats } = jobs.get(contender)!;
    const { engine, waitMs } = contender;
    const timed = { launch: () => job.launch(), settle: () => engine.settle() };
    const ms = await elapsed(timed, repeats, waitMs) / repeats;
    await verify(contender, job);
    return ms;
  });
  fit.forEach(({ engine }, i) => row.samples[engine.name] = samples[i]);
  for (const { job } of jobs.values()) job.dispose();
  return row;
}

/** Short hash of the commit, with a mark if what is measured differs from it. */
async function commit(): Promise<string> {
  const git = async (...args: string[]) => {
    const { success, stdout } = await new Deno.Command("git", { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  };
  const hash = await git("rev-parse", "--short", "HEAD");
  if (hash === undefined) return "no commit";
  const changed = await git("status", "--porcelain", "--", "lib", "kernels", "tests/bench");
  return changed ? `${hash} with changes` : hash;
}

if (import.meta.main) await runCommand(SPEC, main);
