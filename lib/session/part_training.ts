// The training of one part of a model by itself, the autoencoder or the image encoder: one batch a step, a run record,
// checkpoints to go on from bit by bit. What a batch is and what is lost on it is the part's; see vae.ts and vit.ts.

import { backward } from "../autograd.ts";
import { EXIT, InputError, LabError, NumericsError } from "../errors.ts";
import type { ImageSplit } from "../data/training/image_stream.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Parameters } from "../nn/parameters.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { mul } from "../ops/mul.ts";
import { encodePng, type Picture } from "../show/png.ts";
import type { Json, ResolvedConfig } from "../study/config.ts";
import { sha256 } from "../study/provenance.ts";
import { openRun, type Run } from "../study/runs.ts";
import { bytesOf, readAll, type Tensor, tidy } from "../tensor.ts";
import { AdamW, type ScaledGradient } from "../train/adamw.ts";
import { findCheckpoint } from "../train/checkpoint/find.ts";
import { openSnapshot } from "../train/checkpoint/open.ts";
import { cleanUp } from "../train/checkpoint/retention.ts";
import type { TensorEntry } from "../train/checkpoint/snapshot.ts";
import { writeCheckpoint } from "../train/checkpoint/write.ts";
import type { FlatGroup } from "../train/flat_group.ts";
import { learningRateAt } from "../train/schedule.ts";
import { writeWhole } from "../write_whole.ts";
import { Upkeep } from "./upkeep.ts";

/** Settings that every part has. */
export interface PartSettings {
  seed: number;
  /** Updates in all. */
  steps: number;
  learningRate: number;
  /** Updates in which the rate rises to its full height, at most all of them; then it falls as a half cosine to 0. */
  warmup: number;
  weightDecay: number;
  /** Largest L2 norm of the gradient; 0: no limit. */
  clip: number;
  /** Updates between looks at held-out data; 0: only at the end. */
  lookEvery: number;
  /** The share of images that may be unreadable: they are left out and counted. */
  mostBad: number;
  /** Updates between checkpoints, and how many stay. */
  saveEvery: number;
  keep: number;
}

/** One-element losses of a batch, recorded. */
export interface PartLosses {
  /** What is minimised. */
  total: Tensor;
  /** What is logged beside it, by name. */
  shown: Record<string, Tensor>;
}

/** What held-out data says. */
export interface PartLook {
  /** `loss` as that of a batch, and what else is measured. */
  metrics: Record<string, number>;
  /** `path` is where the training put it, relative to the run. */
  picture?: { kind: string; picture: Picture; path?: string };
}

/** A part in training. */
export interface Part {
  /** Everything that is trained, f32. */
  parameters: Parameters;
  /** Hash of the data, for the record. */
  dataSha256: string;
  /** How the data is shared out, for the record. */
  split?: ImageSplit;
  /** Text files of every checkpoint. */
  texts: Record<string, string>;
  /** Reads the batch of an update, counted from 0; what it gives makes the losses inside a scope of their own. */
  batch(step: number): Promise<() => PartLosses>;
  look(): Promise<PartLook>;
  /** Images that were left out since the last call, in words. */
  takeBad(): string[];
}

/** How a training is run. */
export interface PartOptions {
  /** Folder of the run, `…/<study>/<arm>/seed-<n>`. */
  run: string;
  /** Go on from the newest whole checkpoint. Default: false. */
  resume?: boolean;
  /** Aborted: the step in hand is finished and saved, then the loop ends. */
  signal?: AbortSignal;
  onNote?: (text: string) => void;
  /** The command line, for the record. */
  argv?: readonly string[];
}

/** One update as it was. */
export interface PartStep {
  /** Updates made, from 1. */
  number: number;
  total: number;
  /** Before the update: `loss` and what the part shows; `norm` is the gradient's before clipping. */
  metrics: Record<string, number>;
  learningRate: number;
  /** Seconds since the session began. */
  seconds: number;
  /** After this update, if it was due. */
  look?: PartLook;
}

/** What a checkpoint's state.json holds. */
interface PartState {
  format: 1;
  updates: Record<string, number>;
  tuned: Json;
}

/** The kind of event that records {@link Part.split}. */
export const SPLIT = "split";
const WEIGHTS = "model.safetensors";
const MOMENTS = "optimizer.safetensors";
/** Longest time between two read-backs, in milliseconds. */
const READ_EVERY_MS = 250;
/** Settings that a resumed run may change: they alter no update. */
const FREE = ["lookEvery", "saveEvery", "keep", "heldOut", "statistics", "mostBad"];

interface Pending {
  number: number;
  learningRate: number;
  metrics: Map<string, Tensor>;
}

/**
 * Trains a part in place. The loop ends after the last update, or early when `signal` is aborted; both leave a
 * checkpoint. Adam's decays are 0.9 and 0.95.
 *
 * @throws {UsageError} If the run exists and `resume` is not set, or settings differ
 * @throws {NumericsError} If a loss or gradient is not finite; nothing is changed by that update
 * @throws {InputError} If data or a checkpoint cannot be read
 * @throws {ResourceError} If memory, disk or the device give out
 */
export async function* trainPart<T extends PartSettings>(
  gpu: Gpu,
  part: Part,
  settings: ResolvedConfig<T>,
  options: PartOptions,
): AsyncGenerator<PartStep, void> {
  const found = options.resume ? await findCheckpoint(options.run) : null;
  for (const { path, why } of found?.skipped ?? []) options.onNote?.(`skipped ${path}: ${why}`);
  const run = openRun(options.run, settings, {
    resume: options.resume ?? false,
    freeSettings: FREE,
    ...(found ? { fromStep: found.step } : {}),
    dataSha256: part.dataSha256,
    session: {
      adapter: gpu.adapter.name,
      software: gpu.adapter.software,
      limits: { ...gpu.limits },
      kernelChoices: gpu.tuned as unknown as Json,
      budgetBytes: gpu.buffers.budgetBytes,
      argv: options.argv ?? [],
    },
  });
  for (const note of run.notes) options.onNote?.(note);
  if (part.split) run.event(SPLIT, { ...part.split }, { step: found?.step ?? 0 });
  let end = { exitCode: EXIT.done as number, reason: "left" };
  let training: PartTraining | undefined;
  try {
    await cleanUp(options.run);
    training = new PartTraining(gpu, part, settings.values, run, options);
    if (found) await training.restore(found.path);
    yield* training.steps();
    if (training.done) end = { exitCode: EXIT.done, reason: "finished" };
    else if (options.signal?.aborted) {
      end = { exitCode: EXIT.interrupted, reason: String(options.signal.reason) };
    }
  } catch (cause) {
    const exitCode = cause instanceof LabError ? cause.exitCode : EXIT.fault;
    end = { exitCode, reason: cause instanceof Error ? cause.message : String(cause) };
    throw cause;
  } finally {
    training?.dispose();
    run.close(end);
  }
}

/** The state of a training and what moves it on. */
class PartTraining {
  readonly #optimizer: AdamW;
  readonly #began = performance.now();
  readonly #upkeep: Upkeep;
  #pending: Pending[] = [];
  #lastRead = performance.now();
  #made = 0;
  #saved = -1;

  constructor(
    private readonly gpu: Gpu,
    private readonly part: Part,
    private readonly settings: PartSettings,
    private readonly run: Run,
    private readonly options: PartOptions,
  ) {
    const { weightDecay } = settings;
    this.#optimizer = new AdamW(part.parameters, { weightDecay });
    this.#upkeep = new Upkeep(gpu);
  }

  get done(): boolean {
    return this.#made >= this.settings.steps;
  }

  /** Puts a checkpoint into weights and optimizer, and its kernel choices where the adapter is the same. */
  async restore(path: string): Promise<void> {
    const opened = await openSnapshot(path, { verify: false }); // it was verified when it was found
    try {
      const state = opened.state as PartState;
      if (state?.format !== 1) {
        throw new InputError(`Cannot resume from ${path}: its state is of another format`);
      }
      const tuned = state.tuned as unknown as Gpu["tuned"];
      if (JSON.stringify(tuned.key) === JSON.stringify(this.gpu.tuned.key)) this.gpu.tuned = tuned;
      else this.options.onNote?.("another adapter: the run goes on, not to the same bits");
      const weights = opened.file(WEIGHTS);
      for (const [name, tensor] of this.part.parameters.entries()) {
        const info = weights.info(name);
        if (info.shape.join() !== tensor.shape.join() || info.dtype !== "F32") {
          throw new InputError(
            `Cannot resume from ${path}: ${name} is ${info.dtype} (${info.shape.join(", ")}), ` +
              `the model has F32 (${tensor.shape.join(", ")})`,
            { help: "resume with the settings the run was started with" },
          );
        }
        tensor.write(await weights.readFloat32(name));
      }
      const moments = Object.keys(state.updates).length > 0 ? opened.file(MOMENTS) : undefined;
      await this.#optimizer.restore(state.updates, (name) => moments!.readFloat32(name));
      this.#made = this.#saved = opened.step;
    } finally {
      opened.close();
    }
  }

  async *steps(): AsyncGenerator<PartStep, void> {
    const { lookEvery, saveEvery } = this.settings;
    while (!this.done && !this.options.signal?.aborted) {
      await this.#update();
      const due = (every: number) => every > 0 && this.#made % every === 0 || this.done;
      const [looks, saves] = [due(lookEvery), due(saveEvery)];
      if (!looks && !saves && performance.now() - this.#lastRead < READ_EVERY_MS) continue;
      const read = await this.#read();
      if (looks) read.at(-1)!.look = await this.#look();
      if (saves) await this.#save();
      yield* read;
    }
    yield* await this.#read();
    if (this.#made !== this.#saved) await this.#save();
  }

  dispose(): void {
    for (const { metrics } of this.#pending) for (const t of metrics.values()) t.dispose();
    this.#optimizer.dispose();
  }

  /** One update; nothing is read back. */
  async #update(): Promise<void> {
    const { settings } = this;
    const losses = await this.part.batch(this.#made);
    for (const message of this.part.takeBad()) {
      this.options.onNote?.(`left out: ${message}`);
      this.run.event("bad record", { message }, { step: this.#made });
    }
    const after = this.#pending.at(-1)?.metrics.get("finite");
    // A first update at rate 0 would be lost; the last one would be at 0 as well.
    const learningRate = learningRateAt({
      kind: "cosine",
      learningRate: settings.learningRate,
      warmupSteps: Math.min(settings.warmup, settings.steps),
      totalSteps: settings.steps + 1,
    }, this.#made + 1);
    const metrics = new Map<string, Tensor>();
    tidy(() => {
      const { total, shown } = losses();
      metrics.set("loss", total.alias().keep());
      for (const [name, tensor] of Object.entries(shown)) metrics.set(name, tensor.keep());
      const gradients = this.#optimizer.collect(backward(total));
      const norm2 = sumSquares([...gradients.values()].map(({ flat }) => flat));
      metrics.set("norm2", norm2.keep());
      const checks = [sumSquares([metrics.get("loss")!]), norm2].map((s) => clipScale(s, Infinity));
      const finite = (after ? [after, ...checks] : checks).reduce((a, b) => mul(a, b));
      metrics.set("finite", finite.keep());
      const factor = settings.clip > 0 ? mul(clipScale(norm2, settings.clip), finite) : finite;
      const scaled = new Map<FlatGroup, ScaledGradient>();
      for (const [group, gradient] of gradients) scaled.set(group, { ...gradient, factor });
      this.#optimizer.step(scaled, learningRate);
    });
    this.#made++;
    this.#pending.push({ number: this.#made, learningRate, metrics });
    this.#upkeep.after(this.#made);
  }

  /** Reads what is on the device, logs it. */
  async #read(): Promise<PartStep[]> {
    const pending = this.#pending;
    this.#pending = [];
    const values = await readAll(pending.flatMap(({ metrics }) => [...metrics.values()]));
    for (const { metrics } of pending) for (const tensor of metrics.values()) tensor.dispose();
    this.#lastRead = performance.now();
    const seconds = (performance.now() - this.#began) / 1000;
    let next = 0;
    const steps: PartStep[] = [];
    for (const { number, learningRate, metrics } of pending) {
      const read = new Map([...metrics.keys()].map((name) => [name, values[next++][0]]));
      const norm = Math.sqrt(read.get("norm2")!);
      if (!Number.isFinite(read.get("finite")!)) {
        const [loss, step] = [read.get("loss"), number];
        this.run.event("not finite", { loss: String(loss), norm: String(norm) }, { step });
        throw new NumericsError(
          `Cannot go on: at step ${step} the loss is ${loss}, the gradient's norm ${norm}; nothing was changed by it`,
          { help: "start again with a lower learning rate; the last checkpoint stands" },
        );
      }
      read.delete("norm2");
      read.delete("finite");
      const shown = { ...Object.fromEntries(read), norm };
      this.run.metrics(number, { ...shown, "learning-rate": learningRate, seconds });
      const { steps: total } = this.settings;
      steps.push({ number, total, metrics: shown, learningRate, seconds });
    }
    return steps;
  }

  async #look(): Promise<PartLook> {
    const look = await this.part.look();
    const step = this.#made;
    this.run.metrics(
      step,
      Object.fromEntries(Object.entries(look.metrics).map(([k, v]) => [`held-out/${k}`, v])),
    );
    if (look.picture) {
      const png = encodePng(look.picture.picture);
      const path = `samples/step-${String(step).padStart(7, "0")}.png`;
      await Deno.mkdir(`${this.run.dir}/samples`, { recursive: true });
      await writeWhole(`${this.run.dir}/${path}`, png);
      const madeFrom = `weights after step ${step}`;
      this.run.artifact({ path, kind: look.picture.kind, sha256: sha256(png), madeFrom });
      look.picture.path = path;
    }
    return look;
  }

  async #save(): Promise<void> {
    const { parameters, texts } = this.part;
    const updates = Object.entries(this.#optimizer.steps()).sort(([a], [b]) => a < b ? -1 : 1);
    const state: PartState = {
      format: 1,
      updates: Object.fromEntries(updates),
      tuned: this.gpu.tuned as unknown as Json,
    };
    this.run.flush();
    const files = [
      { name: WEIGHTS, tensors: [...parameters.entries()].map(entry) },
      { name: MOMENTS, tensors: [...this.#optimizer.tensors()].map(entry) },
    ].filter(({ tensors }) => tensors.length > 0);
    const { row, removed } = await writeCheckpoint(
      this.run.dir,
      { step: this.#made, files, state, texts },
      { keep: this.settings.keep, session: this.run.session },
    );
    this.run.checkpoint(row);
    this.run.checkpointsGone(removed);
    this.#saved = this.#made;
  }
}

function entry([name, tensor]: [string, Tensor]): TensorEntry {
  const { gpu, shape, buffer } = tensor;
  const sizeBytes = bytesOf(shape, "f32");
  const read = async () => new Uint8Array((await gpu.read([{ buffer, sizeBytes }]))[0]);
  return { name, shape, dtype: "F32", read };
}
