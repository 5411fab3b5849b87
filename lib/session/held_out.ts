// Held-out data of one stage: batches are loaded when they are first looked at and stay the same from then on.

import type { Task } from "../data/training/record.ts";
import { TASKS } from "../data/training/record.ts";
import type { StageConfig, TrainConfig } from "../train/config/schema.ts";
import { heldOutLoader, inputsOf, type OpenSources } from "./data.ts";
import type { TrainModel } from "./model.ts";
import {
  type HeldOut,
  heldOutAnswers,
  type HeldOutBatch,
  heldOutDrawings,
  heldOutLosses,
  takeBatches,
  type Validation,
} from "./validate.ts";

/** Samples of a held-out batch, at most. */
const BATCH = 16;

/** Held-out batches and what is measured on them. */
export class HeldOutData {
  #taken: Promise<HeldOut> | undefined;

  constructor(
    private readonly config: TrainConfig,
    private readonly stage: StageConfig,
    private readonly sources: OpenSources,
    private readonly opened: TrainModel,
    /** Told of records that are left out. */
    private readonly onBad?: (message: string) => void,
  ) {}

  /** Measures everything the config asks for. */
  async look(stage: StageConfig, signal?: AbortSignal): Promise<Validation> {
    const { model, tokenizer, autoencoder } = this.opened;
    const { losses, questions, prompts } = await (this.#taken ??= this.#take());
    return {
      ...await heldOutLosses(model, losses, stage.loss.reweightText),
      answers: await heldOutAnswers(model, tokenizer, questions),
      drawings: await heldOutDrawings(model, autoencoder, prompts, {
        shift: stage.timestepShift,
        ...(signal ? { signal } : {}),
      }),
    };
  }

  async #take(): Promise<HeldOut> {
    const { samples, generate, ask } = this.config.validate;
    const mix = this.#present(TASKS);
    return {
      losses: await this.#batches(mix, samples),
      questions: await this.#batches(this.#present(["i2t"]), ask),
      prompts: await this.#batches(this.#present(["t2i"]), generate),
    };
  }

  /** The stage's weights of those tasks that the held-out data has; each of weight 1 where the stage has none. */
  #present(tasks: readonly Task[]): Partial<Record<Task, number>> {
    const have = new Set(this.sources.flatMap(({ source }) => [...new Set(source.tasks)]));
    const present = tasks.filter((task) => have.has(TASKS.indexOf(task)));
    const weights = present.map((task) => [task, this.stage.mix[task]] as const)
      .filter(([, weight]) => weight > 0);
    return Object.fromEntries(weights.length > 0 ? weights : present.map((task) => [task, 1]));
  }

  async #batches(mix: Partial<Record<Task, number>>, asked: number): Promise<HeldOutBatch[]> {
    const { config, stage, sources, opened } = this;
    const samples = Math.min(asked, this.#count(Object.keys(mix) as Task[]));
    if (samples === 0) return [];
    const size = Math.min(BATCH, samples);
    const loader = await heldOutLoader(
      config,
      stage,
      sources,
      opened,
      mix,
      size,
      this.onBad,
    );
    try {
      return await takeBatches(
        loader,
        samples,
        (batch) => inputsOf(opened, batch, stage.timestepShift),
      );
    } finally {
      await loader.close();
    }
  }

  /** Records of some tasks. */
  #count(tasks: readonly Task[]): number {
    const wanted = new Set(tasks.map((task) => TASKS.indexOf(task)));
    return this.sources.reduce((n, { source }) => {
      return n + source.tasks.filter((task) => wanted.has(task)).length;
    }, 0);
  }

  /** Forgets the batches. */
  close(): void {
    this.#taken = undefined;
  }
}
