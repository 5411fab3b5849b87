// The flags of `deno task train`.

import type { FlagValues } from "./flags.ts";

/** Their table, for parsing and help. */
export const trainFlags = {
  config: { type: "string", unit: "FILE", help: "settings, as JSON; - reads stdin" },
  preset: {
    type: "string",
    unit: "NAME",
    help: "tiny, small, unimedvl-14b or finetune-small, below what --config sets",
  },
  set: {
    type: "list",
    unit: "FIELD=VALUE,…",
    help: "settings, such as stages.foundation.steps=100,seed=1; may be repeated",
  },
  run: {
    type: "string",
    unit: "DIR",
    help: "the run's folder, …/STUDY/ARM/seed-N (default runs/NAME/train/seed-SEED)",
  },
  resume: { type: "boolean", help: "go on from the newest whole checkpoint of the run" },
  step: {
    type: "integer",
    min: 0,
    unit: "N",
    help: "with --resume: from the checkpoint of step N",
  },
  allowConfigChange: {
    type: "boolean",
    help: "with --resume: though settings differ from the run's; the differences are recorded",
  },
  adapter: {
    type: "string",
    default: "any",
    choices: ["any", "gpu", "software"],
    help: "what computes; any prefers hardware",
  },
  budget: { type: "bytes", default: "4GB", help: "most device memory" },
  printConfig: { type: "boolean", help: "print the settings, each with where it comes from" },
  printSchema: { type: "boolean", help: "print the JSON Schema of config files" },
  check: {
    type: "boolean",
    help: "open data and model, say what is wrong or doubtful, what trains and what it takes",
  },
  array: {
    type: "list",
    unit: "FIELD=A..B",
    help: "a sweep as a Slurm job array: seed=0..5 or optimizer.beta2=0.9,0.95; prints its script",
  },
  slurm: {
    type: "list",
    unit: "KEY=VALUE,…",
    help: "for --array: time, mem, gres, partition, account, cpus-per-task, nodes, ntasks",
  },
  submit: { type: "boolean", help: "hand the script of --array to sbatch" },
  replay: { type: "string", unit: "FILE", help: "look at a batch that stopped a run" },
} as const;

/** Typed values of the flags. */
export type TrainFlags = FlagValues<typeof trainFlags>;
