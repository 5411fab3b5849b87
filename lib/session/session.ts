// The state of a running training and what moves it on: one window at a time, everything that has to be exact after
// a resume kept in one place.

import type { Communicator } from "../comm/communicator.ts";
import { SOLO } from "../comm/communicator.ts";
import type { LoadedBatch, Loader, LoaderState } from "../data/training/loader.ts";
import { InputError, NumericsError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Json, ResolvedConfig } from "../study/config.ts";
import { nameCheckpoint } from "../train/checkpoint/names.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { DivergenceWatch } from "../train/guards.ts";
import { BEST, Best } from "./best.ts";
import { closeSources, stageLoader } from "./data.ts";
import { HeldOutData } from "./held_out.ts";
import { look } from "./look.ts";
import { openSession, type SessionParts } from "./open_session.ts";
import {
  noneDrawn,
  type Pending,
  readPending,
  releasePending,
  sumWindow,
} from "./pending_steps.ts";
import { endOf, FINISHED, GAVE_UP } from "./record.ts";
import { saveReplays, saveSession } from "./save_session.ts";
import type { Drawn, TrainState } from "./snapshot.ts";
import { enterStage, rateAt, spansOf, stageAt, type StageSpan } from "./stages.ts";
import type { TrainOptions, TrainStep } from "./train.ts";
import { update } from "./update.ts";
import { Upkeep } from "./upkeep.ts";

/** Longest time between two read-backs, in milliseconds: each waits for the device. */
const READ_EVERY_MS = 250;

/** Most records left out that are told once only. */
const MOST_TOLD = 10_000;

/** A training in progress. */
export class Session {
  readonly #spans: StageSpan[];
  readonly #watch: DivergenceWatch;
  readonly #began = performance.now();
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
  readonly #best: Best;
  readonly #upkeep: Upkeep;
  #failed = false;
  /** Records that were left out, in words. */
  readonly #told = new Set<string>();
  /** Set once any process was asked to stop. */
  #stopAsked = false;

  private constructor(
    private readonly gpu: Gpu,
    private readonly settings: ResolvedConfig<TrainConfig>,
    private readonly options: TrainOptions,
    private readonly parts: SessionParts,
    state: TrainState | undefined,
  ) {
    const { guards, stages } = settings.values;
    this.#spans = spansOf(stages);
    this.#made = this.#begun = state?.step ?? 0;
    this.#position = state && loaderAt(state, this.#comm.rank);
    this.#drawn = state?.drawn ?? noneDrawn();
    this.#tokens = this.#tokensBefore = state?.tokens ?? 0;
    this.#skipped = state?.skipped ?? { inARow: 0, ever: 0 };
    this.#best = new Best(state?.best);
    this.#upkeep = new Upkeep(gpu);
    this.#watch = new DivergenceWatch(
      { factor: guards.divergenceFactor, window: guards.divergenceWindow },
      state?.divergence,
    );
  }

  /** Opens everything; all is given back if a part of it fails. */
  static async open(
    gpu: Gpu,
    settings: ResolvedConfig<TrainConfig>,
    options: TrainOptions,
  ): Promise<Session> {
    const { parts, state } = await openSession(gpu, settings, options);
    return new Session(gpu, settings, options, parts, state);
  }

  get #comm(): Communicator {
    return this.options.comm ?? SOLO;
  }

  /** True once this process, or another of the group in the step before, was asked to stop. */
  get stopped(): boolean {
    return this.#comm.size > 1 ? this.#stopAsked : this.options.signal?.aborted ?? false;
  }

  /** True once every step was made, or the held-out loss was not lower for as long as the config waits. */
  get done(): boolean {
    return this.#made >= this.#spans.at(-1)!.to || this.#gaveUp;
  }

  get #gaveUp(): boolean {
    return this.#best.isOver(this.settings.values.validate.patience);
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
      releasePending(this.#pending);
      record?.close(
        endOf(failure, this.done && (this.#gaveUp ? GAVE_UP : FINISHED), this.options.signal),
      );
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
    enterStage(opened.model.parameters, stage, this.parts.mayTrain);
    optimizer.emaDecay = stage.ema ?? undefined;
    if (fresh && stage.resetOptimizer && from > 0) optimizer.reset();
    if (fresh) this.#drawn = noneDrawn();
    this.#waitedBefore += this.#loader?.waitedMs ?? 0;
    await this.#loader?.close();
    const { rank, size: ranks } = this.#comm;
    const note = this.options.onNote;
    const onBad = (message: string) => {
      if (this.#told.has(message)) return; // it is met again in every pass, and as a stand-in
      if (this.#told.size < MOST_TOLD) this.#told.add(message);
      note?.(`left out: ${message}`);
      record?.event("bad record", { message }, this.#made);
    };
    const share = { rank, ranks };
    this.#loader = await stageLoader(config, stage, sources, opened, share, this.#position, onBad);
    this.#position ??= this.#loader.start;
    this.#heldOut?.close();
    this.#heldOut = rank === 0 && config.validate.every > 0 && heldOutSources.length > 0
      ? new HeldOutData(config, stage, heldOutSources, opened, onBad)
      : undefined;
    if (this.#made === this.#begun) this.options.onStage?.("compiling kernels");
    const { name, mix } = stage;
    record?.event("stage", { index, name, from, to: span.to, mix }, this.#made);
    this.#span = span;
  }

  /** One window: its batches, their gradients, the update. Nothing is read back. */
  async #window(span: StageSpan): Promise<void> {
    const config = this.settings.values;
    const { stage } = span;
    const before = {
      updates: this.parts.optimizer.steps(),
      loader: this.#position!,
      drawn: this.#drawn,
      tokens: this.#tokens,
    };
    const batches: LoadedBatch[] = [];
    for (let i = 0; i < config.accumulate; i++) batches.push(await this.#loader!.next());
    const sums = await sumWindow(this.#comm, batches, stage.loss.reweightText, {
      drawn: this.#drawn,
      stop: this.options.signal?.aborted ?? false,
    });
    this.#stopAsked ||= sums.stop;
    const learningRate = rateAt(span, this.#made);
    const after = this.#pending.at(-1)?.metrics.get("finite");
    const made = await update(this.parts, batches, { config, stage, learningRate, sums, after });
    this.#position = batches.at(-1)!.after;
    this.#drawn = sums.drawn;
    this.#tokens += sums.tokens;
    this.#made++;
    this.#upkeep.after(this.#made);
    const total = this.#spans.at(-1)!.to;
    this.#pending.push({
      step: {
        number: this.#made,
        total,
        stage: stage.name,
        learningRate,
        tokens: sums.tokens,
        leftOut: this.#position.bad.count + this.#position.long.count,
      },
      drawn: sums.drawn,
      ...made,
      before,
      samples: batches.flatMap(({ samples }) => samples.map(({ where }) => where)),
    });
  }

  /** Reads pending steps back, looks at held-out data and saves where that is due, records, gives them out. */
  async *#read(due: { saves: boolean; looks: boolean }): AsyncGenerator<TrainStep, void> {
    const pending = this.#pending;
    this.#pending = [];
    const steps: TrainStep[] = [];
    const drawn = new Map(pending.map(({ step, drawn }) => [step.number, drawn]));
    let bad: { entry: Pending; reason: string } | undefined;
    for (const { entry, read, fault } of await readPending(pending)) {
      if (fault === undefined) {
        this.#skipped.inARow = 0;
        steps.push(this.#stepOf(entry, read, false));
        continue;
      }
      bad = { entry, reason: fault };
      // What was made after a step that changed nothing changed nothing either.
      if (this.settings.values.guards.nonFinite === "stop" || this.#skip(bad)) break;
      bad = undefined;
      steps.push(this.#stepOf(entry, read, true));
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
    record?.steps(steps, drawn);
    if (bad) {
      for (const step of steps) yield step;
      await this.#stop(bad);
    }
    const last = steps.at(-1);
    const { save } = this.settings.values;
    const lowest = due.looks && last !== undefined && await this.#look(last);
    if (due.saves || lowest && save.best || due.looks && this.done) {
      const path = await this.#save();
      if (last && path) last.checkpoint = path;
      if (record && lowest && save.best) await nameCheckpoint(this.options.run, BEST, this.#made);
    }
    for (const step of steps) yield step;
  }

  /** Looks at held-out data; where that cannot be read, what was trained is saved first. */
  async #look(step: TrainStep): Promise<boolean> {
    try {
      return await look(step, {
        stage: this.#span!.stage,
        validate: this.settings.values.validate,
        heldOut: this.#heldOut,
        best: this.#best,
        comm: this.#comm,
        record: this.parts.record,
        options: this.options,
      });
    } catch (cause) {
      // Of several processes the others wait for this one's numbers, not for a save.
      if (cause instanceof InputError && this.#comm.size === 1) await this.#save();
      throw cause;
    }
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
    const { before, step, samples } = entry;
    this.#failed = true;
    this.#made = step.number - 1;
    optimizer.rewind(before.updates);
    [this.#position, this.#drawn, this.#tokens] = [before.loader, before.drawn, before.tokens];
    record?.event("not finite", { reason, samples }, step.number);
    const checkpoint = await this.#save() ?? "";
    const files = record ? await saveReplays(run, entry, { reason, checkpoint }) : [];
    const { nonFinite, mostSkipped } = this.settings.values.guards;
    const inARow = nonFinite === "stop" ? "" : `, ${mostSkipped} in a row (guards.mostSkipped)`;
    throw new NumericsError(
      `Cannot go on: ${reason} at step ${step.number}${inARow}; nothing was changed by it`,
      { help: `look at the batch: deno task train --replay ${files[0] ?? `${run}/replay`}` },
    );
  }

  /** Writes a checkpoint of the state as it is. @returns its folder relative to the run, on the rank that writes */
  async #save(): Promise<string | undefined> {
    if (this.#saved?.step !== this.#made) {
      this.options.onStage?.(`saving step ${this.#made}`);
      const { save, stages } = this.settings.values;
      const state = {
        step: this.#made,
        stage: this.#span?.index ?? 0,
        position: this.#position!,
        drawn: this.#drawn,
        divergence: this.#watch.state(),
        skipped: { ...this.#skipped },
        tokens: this.#tokens,
        ...(this.#best.state ? { best: this.#best.state } : {}),
        tuned: this.gpu.tuned as unknown as Json,
      };
      const path = await saveSession(this.parts, state, {
        run: this.options.run,
        keep: save.keep,
        averaged: stages.some(({ ema }) => ema !== null),
        comm: this.#comm,
        ...(this.options.files ? { files: this.options.files } : {}),
      });
      this.#saved = { step: this.#made, path };
    }
    return this.#saved!.path || undefined;
  }
}

const loaderAt = ({ loaders }: TrainState, rank: number): LoaderState => ({
  ...loaders[rank],
  rank,
});

const lossOf = ({ text = 0, flow = 0 }: TrainStep) => text + flow;
