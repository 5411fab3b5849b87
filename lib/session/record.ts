// What a training writes into its run: metrics, events, held-out results with their pictures, checkpoints.

import { TASKS } from "../data/training/record.ts";
import type { Gpu } from "../gpu/device.ts";
import { captioned } from "../show/pixel_text.ts";
import { encodePng, type Picture, strip } from "../show/png.ts";
import { EXIT, LabError } from "../errors.ts";
import type { Json, ResolvedConfig } from "../study/config.ts";
import { sha256 } from "../study/provenance.ts";
import type { CheckpointRow } from "../study/run_rows.ts";
import { openRun, type Run } from "../study/runs.ts";
import { accuracyInterval } from "../study/statistics.ts";
import type { StageConfig, TrainConfig } from "../train/config/schema.ts";
import { writeWhole } from "../write_whole.ts";
import type { Drawn } from "./snapshot.ts";
import type { TrainOptions, TrainStep } from "./train.ts";
import type { HeldOutDrawing, Validation } from "./validate.ts";

/** Name of the held-out questions in `evaluation`. */
export const ANSWERS = "held-out-answers";

/** Settings that a resumed run may change: they alter no update. */
const FREE = [
  "save.every",
  "save.keep",
  "save.best",
  "log.every",
  "data.workers",
  "data.prefetch",
  "data.latentCache",
  "validate.every",
  "validate.samples",
  "validate.generate",
  "validate.ask",
  "validate.patience",
];

/** A run as the trainer writes it. */
export class TrainRecord {
  readonly #run: Run;
  readonly #logEvery: number;

  /** @param fromStep the step that is resumed from */
  constructor(
    gpu: Gpu,
    settings: ResolvedConfig<TrainConfig>,
    options: TrainOptions,
    dataSha256: string,
    fromStep: number | undefined,
  ) {
    this.#logEvery = settings.values.log.every;
    this.#run = openRun(options.run, settings, {
      resume: options.resume ?? false,
      allowConfigChange: options.allowConfigChange ?? false,
      freeSettings: FREE,
      ...(fromStep === undefined ? {} : { fromStep }),
      dataSha256,
      session: {
        adapter: gpu.adapter.name,
        software: gpu.adapter.software,
        limits: { ...gpu.limits },
        kernelChoices: gpu.tuned as unknown as Json,
        budgetBytes: gpu.buffers.budgetBytes,
        ranks: options.comm?.size ?? 1,
        argv: options.argv ?? [],
      },
    });
    for (const note of this.#run.notes) options.onNote?.(note);
  }

  /** Number of this session in the run, from 1. */
  get session(): number {
    return this.#run.session;
  }

  /** Logs steps. @param drawn the mix of its stage after each step, by its number */
  steps(steps: readonly TrainStep[], drawn: ReadonlyMap<number, Drawn>): void {
    for (const step of steps) {
      const { number, text, flow, norm, learningRate, tokens, waiting, seconds, leftOut } = step;
      if (number % this.#logEvery !== 0) continue;
      this.#run.metrics(number, {
        ...(text === undefined ? {} : { text }),
        ...(flow === undefined ? {} : { flow }),
        norm,
        "learning-rate": learningRate,
        tokens,
        waiting,
        seconds,
        "left-out": leftOut,
        ...Object.fromEntries(
          TASKS.map((task) => [`drawn/${task}`, drawn.get(number)![task].samples]),
        ),
      });
    }
  }

  event(kind: string, detail: Json, step: number): void {
    this.#run.event(kind, detail, { step });
    this.#run.log(`step ${step}: ${kind} ${JSON.stringify(detail)}`);
  }

  /** Stores held-out losses and answers, and the drawings as one picture below `samples/`. */
  async validation(step: number, found: Validation, stage: StageConfig): Promise<void> {
    const { text, flow, answers, drawings } = found;
    this.#run.metrics(step, {
      ...(text === undefined ? {} : { "held-out/text": text }),
      ...(flow === undefined ? {} : { "held-out/flow": flow }),
    });
    if (answers.length > 0) {
      const items = answers.map(({ item }) => item.split("/")[0]);
      const { value, low, high } = accuracyInterval(answers.map((a) => Number(a.correct)), items);
      this.#run.metrics(step, { "held-out/answers": value });
      this.#run.evaluation({
        step,
        benchmark: ANSWERS,
        version: 1,
        scorer: "every token of the answer and its end is the most likely one",
        split: "validation",
        weights: "raw",
        n: answers.length,
        value,
        low,
        high,
        options: { stage: stage.name },
        items: answers.map(({ item, target, answer, correct }) => ({
          item,
          target,
          answer,
          score: Number(correct),
        })),
      });
    }
    if (drawings.length > 0) await this.#pictures(step, drawings);
  }

  async #pictures(step: number, drawings: readonly HeldOutDrawing[]): Promise<void> {
    const picture = ({ width, height, data }: HeldOutDrawing["drawn"]): Picture => ({
      width,
      height,
      rgb: data,
    });
    const row = (images: HeldOutDrawing["drawn"][]) => strip([images.map(picture)], { cell: 96 });
    const sheet = captioned([
      { caption: "drawn", picture: row(drawings.map(({ drawn }) => drawn)) },
      { caption: "held out", picture: row(drawings.map(({ wanted }) => wanted)) },
    ]);
    const png = encodePng(sheet);
    const path = `samples/step-${String(step).padStart(7, "0")}.png`;
    await Deno.mkdir(`${this.#run.dir}/samples`, { recursive: true });
    await writeWhole(`${this.#run.dir}/${path}`, png);
    this.#run.artifact({
      path,
      kind: "drawn above, held out below",
      sha256: sha256(png),
      madeFrom: `weights after step ${step}`,
    });
  }

  /** Notes a checkpoint, and those it made superfluous. */
  checkpoint(row: CheckpointRow, removed: readonly string[]): void {
    this.#run.checkpoint(row);
    this.#run.checkpointsGone(removed);
  }

  /** Writes buffered metrics now. */
  flush(): void {
    this.#run.flush();
  }

  close(end: { exitCode: number; reason: string }): void {
    this.#run.close(end);
  }
}

/** Why a training is over: all steps were made, or more would not help. */
export const [FINISHED, GAVE_UP] = ["finished", "no lower held-out loss"];

/** How a session ended, from what ended it. @param over why the training is over; false if it is not */
export function endOf(
  failure: unknown,
  over: string | false,
  signal: AbortSignal | undefined,
): { exitCode: number; reason: string } {
  const cause = failure ?? (over ? undefined : signal?.reason);
  if (cause === undefined) return { exitCode: EXIT.done, reason: over || "left" };
  const exitCode = cause instanceof LabError
    ? cause.exitCode
    : failure === undefined
    ? EXIT.interrupted
    : EXIT.fault;
  return { exitCode, reason: cause instanceof Error ? cause.message : String(cause) };
}
