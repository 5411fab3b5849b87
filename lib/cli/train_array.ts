// `deno task train --array`: a sweep as a Slurm job array, printed or submitted.

import { UsageError } from "../errors.ts";
import type { Context } from "./command.ts";
import { runQuietly } from "./python.ts";
import { arrayScript, type SlurmOptions, submitArray } from "./slurm.ts";
import { readAxis, sweepRuns } from "./sweep.ts";
import { runFolder } from "../study/run_folder.ts";
import type { TrainFlags, trainFlags } from "./train_flags.ts";
import { planOf, type TrainPlan, wholeValues } from "./train_plan.ts";

/** Options of `--slurm` that go to sbatch. */
const SLURM = ["time", "mem", "gres", "partition", "account"] as const;
const COUNTS = { "cpus-per-task": "cpusPerTask", nodes: "nodes", ntasks: "ntasks" } as const;

/**
 * Prints the script of a sweep, or hands it to sbatch. Every run's settings are checked before.
 *
 * @throws {UsageError} If an axis or a run's settings are wrong
 */
export async function trainArray(
  plan: TrainPlan,
  context: Context<typeof trainFlags>,
): Promise<void> {
  const { flags, print, emit, note } = context;
  const { name } = plan.settings.values;
  if (flags.run !== undefined) {
    throw new UsageError("Cannot use --run with --array: each run has a folder of its own", {
      help: "leave --run out; runs lie in runs/NAME/ARM/seed-SEED, the arm named for what differs",
    });
  }
  const runs = sweepRuns(name, wholeValues(flags.array ?? []).map(readAxis));
  const set = wholeValues(flags.set ?? []);
  const folders: string[] = [];
  for (const run of runs) {
    const own = await planOf({ ...flags, set: [...set, ...run.settings] });
    folders.push(runFolder("runs", name, run.arm, own.settings.values.seed));
  }
  const folder = Deno.cwd();
  const logs = `${folder}/runs/${name}`;
  const script = arrayScript({
    name,
    runs,
    folder,
    logs,
    command: (run) => [
      // Deno itself: npx dies of a signal at once, and what it began goes on unheard.
      ...[Deno.execPath(), "task", "train"],
      ...argumentsOf(flags, [...set, ...run.settings], folders[runs.indexOf(run)]),
    ],
    resume: ["--resume"],
    slurm: slurmOptions(flags.slurm ?? []),
  });
  if (!flags.submit) return print(script.trimEnd());
  await Deno.mkdir(logs, { recursive: true }); // sbatch needs it to be there
  const job = await submitArray(script, runQuietly);
  emit({ event: "submitted", job, runs: runs.length });
  note(`runs: ${runs.map((run) => run.settings.join(" ")).join("; ")}`);
  print(`job ${job}: ${runs.length} runs; what they print goes to ${logs}`);
}

/** The command line of one run: everything that was given, its own values, a folder of its own. */
function argumentsOf(
  { config, preset, adapter, budget }: TrainFlags,
  set: readonly string[],
  folder: string,
): string[] {
  return [
    ...(config === undefined ? [] : ["--config", config]),
    ...(preset === undefined ? [] : ["--preset", preset]),
    ...set.flatMap((text) => ["--set", text]),
    ...["--adapter", adapter, "--budget", String(budget), "--run", folder],
  ];
}

/** `time=2:00:00` and the like, as sbatch knows them. */
function slurmOptions(texts: readonly string[]): SlurmOptions {
  const options: Record<string, string | number> = {};
  for (const text of texts) {
    const at = text.indexOf("=");
    const [key, value] = [text.slice(0, at), text.slice(at + 1)];
    if (at > 0 && (SLURM as readonly string[]).includes(key)) options[key] = value;
    else if (at > 0 && Object.hasOwn(COUNTS, key) && /^[1-9]\d*$/.test(value)) {
      options[COUNTS[key as keyof typeof COUNTS]] = Number(value);
    } else {
      throw new UsageError(`Cannot give Slurm ${text}`, {
        help: `there are ${[...SLURM, ...Object.keys(COUNTS)].join(", ")}, such as time=2:00:00`,
      });
    }
  }
  return options;
}
