// A sweep as a Slurm job array: one script, one task per run. A task that Slurm starts again (a node failed, it was
// preempted, its time was up) resumes from the last checkpoint of its run.

import { ResourceError, UsageError } from "../errors.ts";
import type { RunQuietly } from "./python.ts";
import { quoted } from "./shell_words.ts";
import type { SweepRun } from "./sweep.ts";

/** Options handed to sbatch as they are. */
export interface SlurmOptions {
  /** Limit of a task, as Slurm writes it: `2:00:00`. */
  time?: string;
  /** Memory of a node: `24G`. */
  mem?: string;
  /** Generic resources: `gpu:1`. */
  gres?: string;
  partition?: string;
  account?: string;
  cpusPerTask?: number;
  nodes?: number;
  /** Ranks of one run; more than 1 are started by mpirun. Default: 1. */
  ntasks?: number;
}

/** A job array to be. */
export interface ArraySpec {
  /** Name of the job. */
  name: string;
  runs: readonly SweepRun[];
  /** Folder to work in, absolute. */
  folder: string;
  /** Folder for what tasks print, absolute, there already. */
  logs: string;
  /** Command and arguments of one run. */
  command: (run: SweepRun) => readonly string[];
  /** Arguments added when a task is started again. */
  resume: readonly string[];
  /** Tasks that may run at the same time. Default: all. */
  atOnce?: number;
  slurm?: SlurmOptions;
}

/** Seconds before its limit at which a task is told to save and stop. */
const SAVE_SECONDS = 180;

/**
 * The script for sbatch.
 *
 * @throws {UsageError} If an option of Slurm's is no single word
 */
export function arrayScript(spec: ArraySpec): string {
  const { name, runs, folder, logs, command, resume, atOnce, slurm = {} } = spec;
  const { ntasks = 1 } = slurm;
  const most = atOnce === undefined ? "" : `%${atOnce}`;
  const options: [string, string | number | undefined][] = [
    ["job-name", name],
    ["array", `0-${runs.length - 1}${most}`],
    ["output", `${logs}/${name}-%a.log`],
    ["time", slurm.time],
    ["mem", slurm.mem],
    ["gres", slurm.gres],
    ["partition", slurm.partition],
    ["account", slurm.account],
    ["nodes", slurm.nodes],
    ["ntasks", ntasks],
    ["cpus-per-task", slurm.cpusPerTask],
    ["signal", `B:USR1@${SAVE_SECONDS}`],
  ];
  const lines = options.filter(([, value]) => value !== undefined)
    .map(([key, value]) => `#SBATCH --${key}=${word(key, String(value))}`);
  const cases = runs.map((run, i) => `  ${i}) run=(${command(run).map(quoted).join(" ")}) ;;`);
  const launch = ntasks > 1 ? `mpirun -n ${ntasks} "\${run[@]}"` : `"\${run[@]}"`;
  return [
    "#!/bin/bash",
    ...lines,
    "#SBATCH --requeue",
    "#SBATCH --open-mode=append",
    "",
    `cd ${quoted(folder)} || exit 1`,
    'case "$SLURM_ARRAY_TASK_ID" in',
    ...cases,
    '  *) echo "no run $SLURM_ARRAY_TASK_ID in this sweep" >&2; exit 2 ;;',
    "esac",
    'if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then',
    `  run+=(${resume.map(quoted).join(" ")})`,
    "fi",
    "",
    "# Near its limit a task is told so by USR1: it saves, stops with 143, and is put in the queue again.",
    "again=no",
    // mpirun hands USR2 on to its ranks, and kills them a second after TERM.
    `trap 'told=yes; again=yes; kill -${ntasks > 1 ? "USR2" : "TERM"} "$child"' USR1`,
    `trap 'told=yes; kill -TERM "$child"' TERM INT`,
    `${launch} &`,
    "child=$!",
    "code=127",
    "while :; do",
    "  told=no",
    '  wait "$child"; ended=$?',
    '  [ "$ended" -eq 127 ] || code=$ended  # 127 if it was waited for before',
    '  [ "$told" = yes ] && [ "$ended" -ne 127 ] || break  # a signal ended the wait, perhaps not the run',
    "done",
    'if [ "$again" = yes ] && [ "$code" -eq 143 ]; then',
    '  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
    "fi",
    'exit "$code"',
    "",
  ].join("\n");
}

/**
 * Hands a script to sbatch.
 *
 * @returns number of the job
 * @throws {ResourceError} If there is no sbatch, or it refuses
 */
export async function submitArray(script: string, run: RunQuietly): Promise<number> {
  const path = await Deno.makeTempFile({ prefix: "array-", suffix: ".sh" });
  try {
    await Deno.writeTextFile(path, script);
    const result = await run("sbatch", ["--parsable", path]);
    if (!result) {
      throw new ResourceError("Cannot submit: there is no sbatch on this machine", {
        help:
          "print the script without --submit, and give it to sbatch on the cluster's login node",
      });
    }
    const job = Number(result.stdout.trim().split(";")[0]); // "12" or "12;cluster"
    if (result.code !== 0 || !Number.isInteger(job) || job < 1) {
      const said = `${result.stderr}${result.stdout}`.trim().split("\n").at(-1);
      throw new ResourceError(`Cannot submit: ${said || `sbatch ended with ${result.code}`}`, {
        help: "see sbatch --test-only, or print the script without --submit",
      });
    }
    return job;
  } finally {
    await Deno.remove(path);
  }
}

/** @throws {UsageError} If a value could end its line or be read as two */
function word(key: string, value: string): string {
  if (/^[\w.:,=@%+/~-]+$/.test(value)) return value;
  throw new UsageError(`Cannot give Slurm --${key}=${JSON.stringify(value)}: it must be one word`);
}
