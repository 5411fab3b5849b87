// The state of a running training and what moves it on: one window at a time, everything that has to be exact after
// a resume kept in one place.

import type { Communicator } from "../comm/communicator.ts";
import { SOLO } from "../comm/communicator.ts";
import type { LoadedBatch, Loader, LoaderState } from "../data/training/loader.ts";
import { TASKS } from "../data/training/record.ts";
import { EXIT, LabError, NumericsError, UsageError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Json, ResolvedConfig } from "../study/config.ts";
import { saveLora } from "../model/lora_file.ts";
import { readAll, type Tensor } from "../tensor.ts";
import { AdamW } from "../train/adamw.ts";
import { findCheckpoint } from "../train/checkpoint/find.ts";
import { cleanUp } from "../train/checkpoint/retention.ts";
import { openSnapshot } from "../train/checkpoint/open.ts";
import { planSnapshot } from "../train/checkpoint/snapshot.ts";
import { writeCheckpoint } from "../train/checkpoint/write.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { DivergenceWatch } from "../train/guards.ts";
import { lossTotals, type Objective } from "../train/objective.ts";
import { RankedWindow } from "../train/ranked_window.ts";
import { checkSameWeights } from "../train/ranks.ts";
import { GradientReducer } from "../train/reduce.ts";
import { writeReplay } from "../train/replay.ts";
import { Shards } from "../train/shards.ts";
import type { StepMetrics } from "../train/step.ts";
import { TrainWindow } from "../train/window.ts";
import {
  closeSources,
  dataDigest,
  inputsOf,
  type OpenSources,
  openSources,
  stageLoader,
} from "./data.ts";
import { HeldOutData } from "./held_out.ts";
import { openTrainModel, type TrainModel } from "./model.ts";
import { gatherTexts, gatherUpdates, sharedEntries } from "./ranks.ts";
import { type Drawn, restoreSnapshot, snapshotOf, type TrainState } from "./snapshot.ts";
import { enterStage, rateAt, spansOf, stageAt, type StageSpan, trainsIn } from "./stages.ts";
import { TrainRecord } from "./record.ts";
import type { TrainOptions, TrainStep } from "./train.ts";

/** Longest time between two read-backs, in milliseconds: each waits for the device. */
const READ_EVERY_MS = 250;

/** The newest adapter in a run's folder. */
const ADAPTER_FILE = "adapter.safetensors";

/** A step whose numbers are still on the device. */
interface Pending {
  step: Pick<TrainStep, "number" | "total" | "stage" | "learningRate" | "tokens">;
  metrics: StepMetrics;
  /** What the state was before it, should it turn out to have changed nothing. */
  before: { updates: Record<string, number>; loader: LoaderState; drawn: Drawn; tokens: number };
  objectives: Objective[];
  samples: string[];
}

/** What several processes need to train together. */
interface Group {
  reducer: GradientReducer;
  /** Set if the optimizer's state is shared out. */
  shards?: Shards;
}

/** A training in progress. */
export class Session {
  readonly #spans: StageSpan[];
  readonly #watch: DivergenceWatch;
  readonly #began = performance.now();
  readonly #mayTrain: Set<string>;
  #pending: Pending[] = [];
  #lastRead = performance.now();
  #made: number;
  #saved: { step: number; path: string } | undefined;
  #span: StageSpan | undefined;
  #loader: Loader | undefined;
  #position: LoaderState | undefined;
  #waitedBefore = 0;
  #drawn: Drawn;
  #tokens: number;
  readonly #tokensBefore: number;
  /** Updates made before this session. */
  readonly #begun: number;
  #skipped: TrainState["skipped"];
  #heldOut: HeldOutData | undefined;
  #failed = false;
  /** Set once any process was asked to stop. */
  #stopAsked = false;

  private constructor(
    private readonly gpu: Gpu,
    private readonly settings: ResolvedConfig<TrainConfig>,
    private readonly options: TrainOptions,
    private readonly parts: {
      opened: TrainModel;
      optimizer: AdamW;
      sources: OpenSources;
      heldOutSources: OpenSources;
      record: TrainRecord | undefined;
      mayTrain: Set<string>;
      group: Group | undefined;
    },
    state: TrainState | undefined,
  ) {
    const { guards, stages } = settings.values;
    this.#mayTrain = parts.mayTrain;
    this.#spans = spansOf(stages);
    this.#made = this.#begun = state?.step ?? 0;
    this.#position = state && loaderOf(state, this.#comm.rank);
    this.#drawn = state?.drawn ?? noneDrawn();
    this.#tokens = this.#tokensBefore = state?.tokens ?? 0;
    this.#skipped = state?.skipped ?? { inARow: 0, ever: 0 };
    this.#watch = new DivergenceWatch(
      { factor: guards.divergenceFactor, window: guards.divergenceWindow },
      state?.divergence,
    );
  }

  /** Opens data, model, run and, on resume, the checkpoint; everything is given back if one of them fails. */
  static async open(
    gpu: Gpu,
    settings: ResolvedConfig<TrainConfig>,
    options: TrainOptions,
  ): Promise<Session> {
    const config = settings.values;
    const undo: (() => void)[] = [];
    try {
      const sources = await openSources(config.data.sources);
      undo.push(() => closeSources(sources));
      const heldOutSources = await openSources(config.data.validation);
      undo.push(() => closeSources(heldOutSources));
      const found = options.resume
        ? await findCheckpoint(
          options.run,
          options.step === undefined ? {} : { step: options.step },
        )
        : null;
      for (const { path, why } of found?.skipped ?? []) options.onNote?.(`skipped ${path}: ${why}`);
      const snapshot = found && await openSnapshot(found.path, { verify: false });
      if (snapshot) undo.push(() => snapshot.close());
      const { rank } = options.comm ?? SOLO;
      const record = rank === 0
        ? new TrainRecord(gpu, settings, options, dataDigest(sources), found?.step)
        : undefined;
      undo.push(() => record?.close({ exitCode: EXIT.fault, reason: "it could not be opened" }));
      if (record) await cleanUp(options.run);
      pinKernels(gpu, snapshot?.state as TrainState | undefined, options);

      options.onStage?.("opening the model");
      const opened = await openTrainModel(gpu, config, options.onNote);
      undo.push(() => opened.dispose());
      const mayTrain = markTrainable(opened, config);
      const averaged = config.stages.find(({ ema }) => ema !== null)?.ema;
      const { clip: _clip, ...adamw } = config.optimizer;
      const comm = options.comm ?? SOLO;
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
        checkProcesses(state, comm, options.run);
        snapshot.close();
      }
      const parts = { opened, optimizer, sources, heldOutSources, record, mayTrain, group };
      return new Session(gpu, settings, options, parts, state);
    } catch (cause) {
      for (const run of undo.reverse()) run();
      throw cause;
    }
  }

  get #comm(): Communicator {
    return this.options.comm ?? SOLO;
  }

  /** True once this process, or another of the group in the step before, was asked to stop. */
  get stopped(): boolean {
    return this.#comm.size > 1 ? this.#stopAsked : this.options.signal?.aborted ?? false;
  }

  /** True once every step was made. */
  get done(): boolean {
    return this.#made >= this.#spans.at(-1)!.to;
  }

  /** Makes the next step; gives out what was read back meanwhile, seldom each step by itself. */
  async *step(): AsyncGenerator<TrainStep, void> {
    const { guards, save, validate } = this.settings.values;
    const span = stageAt(this.#spans, this.#made);
    if (span !== this.#span) await this.#enter(span);
    await this.#window(span);
    const made = this.#made;
    const last = made === span.to;
    const saves = made % save.every === 0 || this.done;
    const looks = validate.every > 0 && (made % validate.every === 0 || last);
    const now = performance.now();
    // Processes of a group see a bad step at the same time; one that skips steps sees each at once.
    const waits = guards.nonFinite === "stop" && this.#comm.size === 1;
    if (!saves && !looks && waits && now - this.#lastRead < READ_EVERY_MS) return;
    yield* this.#read({ saves, looks });
  }

  /** Reads back what is left and saves, if anything happened since the last checkpoint. */
  async *rest(): AsyncGenerator<TrainStep, void> {
    yield* this.#read({ saves: this.#made > (this.#saved?.step ?? this.#begun), looks: false });
  }

  /** Saves if the loop was left early, ends the record, gives everything back. */
  async close(failure: unknown): Promise<void> {
    const { opened, optimizer, sources, heldOutSources, record } = this.parts;
    try {
      if (failure === undefined && !this.#failed) {
        for await (const _ of this.rest()); // a `break` left steps unread
      }
    } catch (cause) {
      failure = cause;
      throw cause;
    } finally {
      release(this.#pending);
      record?.close(endOf(failure, this.done, this.options.signal));
      await this.#loader?.close();
      this.#heldOut?.close();
      closeSources(sources);
      closeSources(heldOutSources);
      optimizer.dispose();
      opened.dispose();
    }
  }

  async #enter(span: StageSpan): Promise<void> {
    const { stage, from, index } = span;
    const { opened, optimizer, sources, heldOutSources, record } = this.parts;
    const config = this.settings.values;
    const fresh = this.#made === from;
    enterStage(opened.model.parameters, stage, this.#mayTrain);
    optimizer.emaDecay = stage.ema ?? undefined;
    if (fresh && stage.resetOptimizer && from > 0) optimizer.reset();
    if (fresh) this.#drawn = noneDrawn();
    this.#waitedBefore += this.#loader?.waitedMs ?? 0;
    await this.#loader?.close();
    const { rank, size: ranks } = this.#comm;
    const note = this.options.onNote;
    const onBad = (message: string) => {
      note?.(message);
      record?.event("bad record", { message }, this.#made);
    };
    const share = { rank, ranks };
    this.#loader = await stageLoader(config, stage, sources, opened, share, this.#position, onBad);
    this.#position ??= this.#loader.start;
    this.#heldOut?.close();
    this.#heldOut = rank === 0 && config.validate.every > 0 && heldOutSources.length > 0
      ? new HeldOutData(config, stage, heldOutSources, opened)
      : undefined;
    if (fresh) {
      record?.event("stage", { index, name: stage.name, from, to: span.to, mix: stage.mix }, from);
    }
    this.#span = span;
  }

  /** One window: its batches, their gradients, the update. Nothing is read back. */
  async #window(span: StageSpan): Promise<void> {
    const { opened, optimizer } = this.parts;
    const { model } = opened;
    const config = this.settings.values;
    const { stage } = span;
    const { loss } = stage;
    const before = {
      updates: optimizer.steps(),
      loader: this.#position!,
      drawn: this.#drawn,
      tokens: this.#tokens,
    };
    const batches: LoadedBatch[] = [];
    for (let i = 0; i < config.accumulate; i++) batches.push(await this.#loader!.next());
    const sums = await this.#sumOverRanks(batches, loss.reweightText);
    const objectives: Objective[] = [];
    for (const batch of batches) {
      objectives.push({
        name: "all",
        inputs: await inputsOf(opened, batch, stage.timestepShift),
        textWeight: loss.text,
        flowWeight: loss.flow,
        reweightText: loss.reweightText,
        totals: { text: sums.text, flow: sums.flow },
        checkpoint: config.activationCheckpointing,
      });
    }
    const { group } = this.parts;
    const window = group
      ? new RankedWindow(model, optimizer, group.reducer, config.accumulate, group.shards)
      : new TrainWindow(model, optimizer);
    const after = this.#pending.at(-1)?.metrics.get("finite");
    const { clip } = config.optimizer;
    let metrics: StepMetrics;
    const learningRate = rateAt(span, this.#made);
    try {
      for (const objective of objectives) await window.add(objective);
      metrics = await window.finish({
        learningRate,
        ...(clip === null ? {} : { maxNorm: clip }),
        ...(after ? { after } : {}),
      });
    } finally {
      window.dispose();
    }
    this.#position = batches.at(-1)!.after;
    this.#drawn = sums.drawn;
    this.#tokens += sums.tokens;
    this.#made++;
    this.#pending.push({
      step: {
        number: this.#made,
        total: this.#spans.at(-1)!.to,
        stage: stage.name,
        learningRate,
        tokens: sums.tokens,
      },
      metrics,
      before,
      objectives,
      samples: batches.flatMap(({ samples }) => samples.map(({ where }) => where)),
    });
  }

  /** Denominators of the losses, tokens and draws of a window, over all processes. */
  async #sumOverRanks(batches: readonly LoadedBatch[], reweightText: boolean) {
    const stop = this.options.signal?.aborted ? 1 : 0;
    const numbers = [0, 0, 0, ...TASKS.flatMap(() => [0, 0]), stop];
    for (const { packed, samples } of batches) {
      const { text, flow } = lossTotals(packed, reweightText);
      numbers[0] += text;
      numbers[1] += flow;
      numbers[2] += packed.sequenceLength;
      for (const { task, tokens } of samples) {
        const at = 3 + 2 * TASKS.indexOf(task);
        numbers[at] += 1;
        numbers[at + 1] += tokens;
      }
    }
    const [text, flow, tokens, ...byTask] = await this.#comm.sumNumbers(numbers);
    this.#stopAsked ||= byTask.at(-1)! > 0;
    const drawn = Object.fromEntries(TASKS.map((task, i) => [task, {
      samples: this.#drawn[task].samples + byTask[2 * i],
      tokens: this.#drawn[task].tokens + byTask[2 * i + 1],
    }])) as Drawn;
    return { text, flow, tokens, drawn };
  }

  /** Reads pending steps back, looks at held-out data and saves where that is due, records, gives them out. */
  async *#read(due: { saves: boolean; looks: boolean }): AsyncGenerator<TrainStep, void> {
    const pending = this.#pending;
    this.#pending = [];
    const steps: TrainStep[] = [];
    let bad: { entry: Pending; reason: string } | undefined;
    try {
      const values = await readAll(pending.flatMap(({ metrics }) => [...metrics.values()]));
      let next = 0;
      for (const entry of pending) {
        const read = new Map([...entry.metrics.keys()].map((name) => [name, values[next++][0]]));
        if (bad) continue; // made after a step that changed nothing: so did these
        const reason = faultOf(read);
        if (reason === undefined) {
          this.#skipped.inARow = 0;
          steps.push(this.#stepOf(entry, read, false));
        } else bad = { entry, reason };
        if (bad && this.settings.values.guards.nonFinite === "skip" && !this.#skip(bad)) {
          bad = undefined;
          steps.push(this.#stepOf(entry, read, true));
        }
      }
    } finally {
      release(pending);
    }
    this.#lastRead = performance.now();
    const { record } = this.parts;
    for (const step of steps) {
      const warning = step.skipped ? undefined : this.#watch.see(lossOf(step));
      if (warning) {
        this.options.onNote?.(`warning: step ${step.number}: ${warning}`);
        record?.event("divergence", { warning }, step.number);
      }
    }
    record?.steps(steps, this.#drawn);
    if (bad) {
      for (const step of steps) yield step;
      await this.#stop(bad);
    }
    const last = steps.at(-1);
    if (due.looks && last && this.#heldOut) {
      this.options.onStage?.("looking at held-out data");
      last.validation = await this.#heldOut.look(this.#span!.stage, this.options.signal);
      await record?.validation(last.number, last.validation, this.#span!.stage);
    }
    if (due.saves) {
      const path = await this.#save();
      if (last && path) last.checkpoint = path;
    }
    for (const step of steps) yield step;
  }

  #stepOf(entry: Pending, read: Map<string, number>, skipped: boolean): TrainStep {
    const elapsed = performance.now() - this.#began;
    const waited = this.#waitedBefore + (this.#loader?.waitedMs ?? 0);
    const [text, flow] = [read.get("text"), read.get("flow")];
    return {
      ...entry.step,
      ...(text === undefined ? {} : { text }),
      ...(flow === undefined ? {} : { flow }),
      norm: Math.sqrt(read.get("norm2")!),
      seconds: elapsed / 1000,
      tokensPerSecond: 1000 * (this.#tokens - this.#tokensBefore) / elapsed,
      waiting: waited / elapsed,
      skipped,
    };
  }

  /** Counts a step that changed nothing and takes its counts back. @returns true if it is one too many */
  #skip({ entry, reason }: { entry: Pending; reason: string }): boolean {
    const { mostSkipped } = this.settings.values.guards;
    this.parts.optimizer.rewind(entry.before.updates);
    this.#skipped.inARow++;
    this.#skipped.ever++;
    const { number } = entry.step;
    this.options.onNote?.(`warning: step ${number} was skipped: ${reason}`);
    this.parts.record?.event("skipped", { reason, samples: entry.samples }, number);
    return this.#skipped.inARow >= mostSkipped;
  }

  /** Saves the state before a bad step and its batches, and says so. */
  async #stop({ entry, reason }: { entry: Pending; reason: string }): Promise<never> {
    const { record, optimizer } = this.parts;
    const { run } = this.options;
    const { before, step, objectives, samples } = entry;
    this.#failed = true;
    this.#made = step.number - 1;
    optimizer.rewind(before.updates);
    [this.#position, this.#drawn, this.#tokens] = [before.loader, before.drawn, before.tokens];
    record?.event("not finite", { reason, samples }, step.number);
    const checkpoint = await this.#save() ?? "";
    const folder = `${run}/replay`;
    const files: string[] = [];
    if (record) {
      await Deno.mkdir(folder, { recursive: true });
      for (const [micro, objective] of objectives.entries()) {
        const path = `${folder}/step-${step.number}-${micro}.safetensors`;
        const facts = {
          step: step.number,
          micro,
          stage: step.stage,
          run,
          checkpoint,
          reason,
          samples,
        };
        await writeReplay(path, { facts, objective });
        files.push(path);
      }
    }
    throw new NumericsError(
      `Cannot go on: ${reason} at step ${step.number}; nothing was changed by it`,
      { help: `look at the batch: deno task train --replay ${files[0] ?? folder}` },
    );
  }

  /** Writes a checkpoint of the state as it is. @returns its folder relative to the run, on the rank that writes */
  async #save(): Promise<string | undefined> {
    const { opened, optimizer, record, group } = this.parts;
    const comm = this.#comm;
    if (this.#saved?.step === this.#made) return this.#saved.path;
    this.options.onStage?.(`saving step ${this.#made}`);
    const { adaptersOnly, texts, model } = opened;
    await checkSameWeights(comm, model.parameters.entries());
    const loaders = await gatherTexts(comm, JSON.stringify(this.#position!));
    const names = [...this.#mayTrain];
    const updates = group?.shards ? await gatherUpdates(comm, optimizer, names) : optimizer.steps();
    const averaged = this.settings.values.stages.some(({ ema }) => ema !== null);
    const trained = { names, averaged };
    const shared = group?.shards &&
      sharedEntries(group.shards, optimizer, model.parameters, updates, trained);
    const state: TrainState = {
      format: 1,
      step: this.#made,
      stage: this.#span?.index ?? 0,
      loaders: loaders.map((text) => JSON.parse(text)),
      drawn: this.#drawn,
      updates: sorted(updates),
      divergence: this.#watch.state(),
      skipped: { ...this.#skipped },
      tokens: this.#tokens,
      tuned: this.gpu.tuned as unknown as Json,
    };
    const snapshot = snapshotOf({
      model,
      optimizer,
      state,
      adaptersOnly,
      texts,
      ...(shared ? { shared } : {}),
    });
    if (!record) {
      // What is shared out is read by all ranks together, in the order in which the first one writes it.
      const together = new Set(shared?.values());
      for (const { tensors } of shared ? planSnapshot(snapshot).files : []) {
        for (const { read } of tensors) if (together.has(read)) await read();
      }
      this.#saved = { step: this.#made, path: "" };
      return undefined;
    }
    const { keep } = this.settings.values.save;
    record.flush();
    const { row, removed } = await writeCheckpoint(this.options.run, snapshot, {
      keep,
      session: record.session,
    });
    record.checkpoint(row, removed);
    // Beside the checkpoints: the newest adapter by itself, as verbs and `checkpoint merge` take it.
    if (adaptersOnly) await saveLora(model, `${this.options.run}/${ADAPTER_FILE}`);
    this.#saved = row;
    return row.path;
  }
}

const noneDrawn = () =>
  Object.fromEntries(TASKS.map((task) => [task, { samples: 0, tokens: 0 }])) as Drawn;

/** In one order, whatever order parameters were first updated in: equal states are equal files. */
const sorted = (counts: Record<string, number>) =>
  Object.fromEntries(Object.entries(counts).sort(([a], [b]) => a < b ? -1 : 1));

const lossOf = ({ text = 0, flow = 0 }: TrainStep) => text + flow;

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

/** What is not finite in a step's numbers, in words. */
function faultOf(read: Map<string, number>): string | undefined {
  for (const [name, shown] of [["text", "the text loss"], ["flow", "the flow loss"]] as const) {
    const value = read.get(name);
    if (value !== undefined && !Number.isFinite(value)) return `${shown} is ${value}`;
  }
  const norm2 = read.get("norm2")!;
  if (!Number.isFinite(norm2)) return `the gradient's norm is ${Math.sqrt(norm2)}`;
  return Number.isFinite(read.get("finite")!) ? undefined : "a loss is too large";
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

const loaderOf = ({ loaders }: TrainState, rank: number): LoaderState => ({
  ...loaders[rank],
  rank,
});

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

function endOf(
  failure: unknown,
  done: boolean,
  signal: AbortSignal | undefined,
): { exitCode: number; reason: string } {
  const cause = failure ?? (done ? undefined : signal?.reason);
  if (cause === undefined) return { exitCode: EXIT.done, reason: done ? "finished" : "left" };
  const exitCode = cause instanceof LabError
    ? cause.exitCode
    : failure === undefined
    ? EXIT.interrupted
    : EXIT.fault;
  return { exitCode, reason: cause instanceof Error ? cause.message : String(cause) };
}

function release(pending: Pending[]): void {
  for (const { metrics } of pending) {
    for (const tensor of metrics.values()) (tensor as Tensor).dispose();
  }
}
