// `deno task train`: a training from a config to its checkpoints, figure and record.

import { Interrupted, runCommand } from "./command.ts";
import { trainArray } from "./train_array.ts";
import { checkTraining } from "./train_check.ts";
import { trainFlags } from "./train_flags.ts";
import { replayBatch } from "./train_replay.ts";
import { trainRun } from "./train_run.ts";
import { planOf } from "./train_plan.ts";
import { openCommunicator } from "../comm/open.ts";
import { configFileSchema, configText } from "../train/config/print.ts";

await runCommand({
  name: "train",
  purpose: "Train a model by a config: stages, checkpoints, exact resume.",
  usage: "[--config FILE | --preset NAME] [flags]",
  flags: trainFlags,
  examples: [
    [
      "deno task train --config experiments/configs/tiny-curriculum.json",
      "three stages on generated images, minutes on two cores",
    ],
    [
      "deno task train --preset small --set data.sources.0.path=DIR --set data.validation.0.path=DIR --check",
      "a folder with files for training and for validation: what would be done?",
    ],
    [
      "deno task train --config mine.json --run runs/mine/joint/seed-0 --resume",
      "go on where it stopped",
    ],
  ],
  exitCodes: {
    3: "data, a checkpoint or a config file cannot be used",
    4: "memory, disk or the device gave out; --resume goes on",
    5: "a number is not finite; the batch is saved for --replay",
    6: "another process writes the run",
  },
}, async (context) => {
  const { flags, print, emit } = context;
  if (flags.printSchema) return print(JSON.stringify(configFileSchema(), null, 2));
  if (flags.replay !== undefined) return await replayBatch(flags.replay, context);
  const plan = await planOf(flags);
  if (flags.printConfig) {
    emit({ event: "config", ...plan.settings });
    return print(configText(plan.settings));
  }
  if (flags.array !== undefined) return await trainArray(plan, context);
  if (flags.check) return await checkTraining(plan, context);
  const comm = await openCommunicator();
  const told = new AbortController();
  // mpirun hands USR2 on to its ranks; after TERM it leaves them a second.
  if (comm.size > 1) {
    Deno.addSignalListener("SIGUSR2", () => told.abort(new Interrupted("SIGTERM")));
  }
  try {
    const signal = AbortSignal.any([context.signal, told.signal]);
    await trainRun(plan, comm, { ...context, signal });
    told.signal.throwIfAborted();
  } catch (cause) {
    if (comm.size > 1 && !(cause instanceof Interrupted)) {
      context.warn(cause instanceof Error ? cause.message : String(cause));
      comm.abort(1); // the others wait for this rank in their next sum
    }
    throw cause;
  } finally {
    comm.finalize();
  }
});
