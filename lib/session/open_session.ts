// Opening a training: data, model, run record, optimizer and, on resume, the checkpoint; all of it or nothing.

import type { Communicator } from "../comm/communicator.ts";
import { SOLO } from "../comm/communicator.ts";
import { InputError, UsageError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { ResolvedConfig } from "../study/config.ts";
import { AdamW } from "../train/adamw.ts";
import { findCheckpoint } from "../train/checkpoint/find.ts";
import { nameCheckpoint } from "../train/checkpoint/names.ts";
import { openSnapshot } from "../train/checkpoint/open.ts";
import { cleanUp } from "../train/checkpoint/retention.ts";
import { checkTrainConfig } from "../train/config/check.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { GradientReducer } from "../train/reduce.ts";
import { Shards } from "../train/shards.ts";
import { BEST } from "./best.ts";
import { closeSources, dataDigest, type OpenSources, openSources, recordsOf } from "./data.ts";
import { checkSources, leaveOut, saveCheck } from "./data_check.ts";
import { openTrainModel, sizesOf, type TrainModel } from "./model.ts";
import { endOf, TrainRecord } from "./record.ts";
import { checkRunRoom } from "./room.ts";
import { restoreSnapshot, type TrainState } from "./snapshot.ts";
import { trainsIn } from "./stages.ts";
import type { TrainOptions } from "./train.ts";

/** What several processes need to train together. */
export interface Group {
  reducer: GradientReducer;
  /** Set if the optimizer's state is shared out. */
  shards?: Shards;
}

/** What a training holds open. */
export interface SessionParts {
  opened: TrainModel;
  optimizer: AdamW;
  sources: OpenSources;
  heldOutSources: OpenSources;
  /** Of the process that writes. */
  record: TrainRecord | undefined;
  /** Names of parameters that train in any stage. */
  mayTrain: Set<string>;
  /** Of a training by several processes. */
  group: Group | undefined;
}

/** Opens data, model, run and, on resume, the checkpoint; everything is given back if one of them fails. */
export async function openSession(
  gpu: Gpu,
  settings: ResolvedConfig<TrainConfig>,
  options: TrainOptions,
): Promise<{ parts: SessionParts; state: TrainState | undefined }> {
  const config = settings.values;
  const undo: ((cause: unknown) => void)[] = [];
  try {
    const model = await sizesOf(config);
    checkTrainConfig(config, { model });
    const all = await openSources(config.data.sources);
    undo.push(() => closeSources(all));
    const held = await openSources(config.data.validation);
    undo.push(() => closeSources(held));
    const check = await checkSources(config.data, all, held, {
      ...options,
      onLook: (what, done, total) =>
        options.onStage?.(`checking data: ${what} ${done} of ${total}`),
    });
    const sources = leaveOut(all, check?.bad);
    const heldOutSources = leaveOut(held, check?.badHeldOut);
    checkTrainConfig(config, { model, records: recordsOf(sources) });
    const found = options.resume
      ? await findCheckpoint(
        options.run,
        options.step === undefined ? {} : { step: options.step },
      )
      : null;
    for (const { path, why } of found?.skipped ?? []) options.onNote?.(`skipped ${path}: ${why}`);
    if (options.resume && !found) {
      options.onNote?.(`no checkpoint in ${options.run}: the training begins at step 1`);
    }
    const snapshot = found && await openSnapshot(found.path, { verify: false });
    if (snapshot) undo.push(() => snapshot.close());
    const comm = options.comm ?? SOLO;
    if (snapshot) checkProcesses(snapshot.state as unknown as TrainState, comm, options.run);
    const record = comm.rank === 0
      ? new TrainRecord(gpu, settings, options, dataDigest(sources), found?.step)
      : undefined;
    undo.push((cause) => record?.close(endOf(cause, false, undefined)));
    if (record) {
      await cleanUp(options.run);
      await saveCheck(options.run, check);
    }
    pinKernels(gpu, snapshot?.state as TrainState | undefined, options);

    options.onStage?.("opening the model");
    const opened = await openTrainModel(gpu, config, options.onNote);
    undo.push(() => opened.dispose());
    const mayTrain = markTrainable(opened, config);
    const averaged = config.stages.find(({ ema }) => ema !== null)?.ema;
    if (record) {
      const toSave = { opened, mayTrain, averaged: typeof averaged === "number" };
      await checkRunRoom(options.run, toSave, found !== null, options.files);
    }
    const { clip: _clip, ...adamw } = config.optimizer;
    const group = comm.size > 1 ? groupOf(comm, opened, config) : undefined;
    const own = group?.shards?.own(opened.model.parameters) ?? opened.model.parameters;
    const optimizer = new AdamW(own, {
      ...adamw,
      ...(typeof averaged === "number" ? { emaDecay: averaged } : {}),
    });
    undo.push(() => optimizer.dispose());
    let state: TrainState | undefined;
    if (snapshot) {
      const { model, adaptersOnly } = opened;
      const isOwn = (name: string) => !group?.shards || group.shards.ownerOf(name) === comm.rank;
      state = await restoreSnapshot(snapshot, model, optimizer, { adaptersOnly, isOwn });
      snapshot.close();
      if (record && config.save.best && state.best) await nameBest(options, state.best.step);
    }
    const parts = { opened, optimizer, sources, heldOutSources, record, mayTrain, group };
    return { parts, state };
  } catch (cause) {
    for (const run of undo.reverse()) run(cause);
    throw cause;
  }
}

/** The name `best` as the state has it: it is given after a save, before which a process may have been killed. */
async function nameBest({ run, onNote }: TrainOptions, step: number): Promise<void> {
  try {
    await nameCheckpoint(run, BEST, step);
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    onNote?.(`step ${step} had the lowest held-out loss so far, but its checkpoint is gone`);
  }
}

/** Marks parameters that train in any stage; their names. */
function markTrainable({ model, adaptersOnly }: TrainModel, config: TrainConfig): Set<string> {
  const trains = config.stages.map(trainsIn);
  const may = new Set<string>();
  for (const [name, tensor] of model.parameters.entries()) {
    if (adaptersOnly && !tensor.requiresGrad) continue;
    tensor.requiresGrad = trains.some((inStage) => inStage(name));
    if (tensor.requiresGrad) may.add(name);
  }
  return may;
}

/** Kernel choices of the checkpoint, where it was made on this adapter. */
function pinKernels(gpu: Gpu, state: TrainState | undefined, options: TrainOptions): void {
  const saved = state?.tuned as unknown as Gpu["tuned"] | undefined;
  if (!saved) return;
  if (JSON.stringify(saved.key) === JSON.stringify(gpu.tuned.key)) {
    gpu.tuned = saved;
  } else {
    options.onNote?.(
      "the checkpoint was made on another adapter: the run goes on, not to the same bits",
    );
  }
}

/** The processes of a training, and which of them updates what. */
function groupOf(comm: Communicator, { model }: TrainModel, config: TrainConfig): Group {
  const { bucketBytes, shardOptimizer: sharded } = config.parallel;
  const reducer = new GradientReducer(comm, model.parameters.entries(), { bucketBytes, sharded });
  return sharded ? { reducer, shards: new Shards(reducer) } : { reducer };
}

function checkProcesses({ loaders }: TrainState, comm: Communicator, run: string): void {
  if (loaders.length === comm.size) return;
  const were = loaders.length === 1 ? "one process" : `${loaders.length} processes`;
  throw new UsageError(
    `Cannot resume ${run}: it was trained by ${were}, now there are ${comm.size}`,
    {
      help: loaders.length === 1
        ? "start it without mpirun"
        : `start it with mpirun -n ${loaders.length}`,
    },
  );
}
