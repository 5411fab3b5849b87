// The record of each arm: a run folder with its metrics as they come, its answers, probes and weights, and
// the finished result. A finished arm is used again by --resume only if everything that decides it is the
// same; an unfinished one starts anew, its old rows kept but hidden.

import { createHash } from "node:crypto";
import type { Pixels } from "../../lib/data/transforms.ts";
import { InputError } from "../../lib/errors.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { saveModelFolder } from "../../lib/infer/save_folder.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { describeMatmul } from "../../lib/ops/matmul_table.ts";
import { writeWhole } from "../../lib/write_whole.ts";
import type { ResolvedConfig } from "../../lib/study/config.ts";
import { runFolder } from "../../lib/study/run_folder.ts";
import { openRun, type Run } from "../../lib/study/runs.ts";
import { accuracyInterval } from "../../lib/study/statistics.ts";
import type { StepRecord } from "../../lib/train/loop.ts";
import type { ArmResult, ProbePoint } from "./arm.ts";
import type { DemoConfig } from "./config.ts";
import type { DemoWorld } from "./world.ts";

/** Where arms are kept and what decides them. */
export interface StoreOptions {
  /** Folder of the demo's results; runs are below `runs/`. */
  out: string;
  settings: ResolvedConfig<DemoConfig>;
  /** SHA-256 of everything that decides a result but the settings: sources, start, data. */
  fingerprint: string;
  /** Use finished arms again. Otherwise earlier runs in `out` are replaced. */
  resume: boolean;
}

/** An arm being run. */
export interface OpenArm {
  /** What the user should know: other sources, another adapter. */
  notes: readonly string[];
  step(record: StepRecord): void;
  /** Stores the finished arm and its weights. */
  finish(model: UniMedVL, result: ArmResult): Promise<void>;
  /** Ends the record early, with what was logged. */
  interrupt(exitCode: number, reason: string): void;
}

/** The arms of one demo. */
export class ArmStore {
  readonly #options: StoreOptions;

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  /** The run folder of an arm. */
  folder(world: DemoWorld, arm: string): string {
    const { out, settings } = this.#options;
    return runFolder(`${out}/runs`, `demo-${world.key}`, arm, settings.values.seed);
  }

  /** The finished arm, if it may be used again. @throws {InputError} If its file is damaged */
  async find(world: DemoWorld, arm: string): Promise<ArmResult | undefined> {
    if (!this.#options.resume) return undefined;
    const path = `${this.folder(world, arm)}/result.json`;
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return undefined;
      throw cause;
    }
    try {
      const { fingerprint, result } = JSON.parse(text);
      return fingerprint === this.#fingerprint(world) ? revive(result) : undefined;
    } catch (cause) {
      throw new InputError(`Cannot use ${path}: ${(cause as Error).message}`, {
        cause,
        help: "remove the file, or run without --resume",
      });
    }
  }

  /** Opens the record of an arm. @throws {LabError} If it cannot be written, or another process has it */
  async open(gpu: Gpu, world: DemoWorld, arm: string): Promise<OpenArm> {
    const { settings, resume } = this.#options;
    const dir = this.folder(world, arm);
    if (!resume) await removeRun(dir);
    const run = openRun(dir, settings, {
      resume,
      ...(world.digest ? { dataSha256: world.digest } : {}),
      session: {
        adapter: gpu.adapter.name,
        software: gpu.adapter.software,
        kernelChoices: { matmul: { ...describeMatmul(gpu) } },
        budgetBytes: gpu.buffers.budgetBytes,
        argv: Deno.args,
      },
    });
    return {
      notes: run.notes,
      step: ({ number, metrics, learningRate }) =>
        run.metrics(number, { ...metrics, "learning-rate": learningRate }),
      finish: async (model, result) => {
        await this.#keep(run, model, world, result);
        run.close({ exitCode: 0, reason: "finished" });
      },
      interrupt: (exitCode, reason) => run.close({ exitCode, reason }),
    };
  }

  async #keep(run: Run, model: UniMedVL, world: DemoWorld, result: ArmResult): Promise<void> {
    const step = result.budget.steps;
    const folder = `checkpoints/step-${String(step).padStart(7, "0")}`;
    const path = `${folder}/model.safetensors`;
    const { points } = this.#options.settings.values.gate;
    const draw = { steps: points, shift: world.shift, textGuidance: 1 };
    await saveModelFolder(`${run.dir}/${folder}`, model, world.tokenizer, draw);
    const bytes = await Deno.readFile(`${run.dir}/${path}`);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    run.checkpoint({ step, path, bytes: bytes.length, sha256 });
    recordAnswers(run, world, result);
    recordProbes(run, result.global, world.probeTargets.global.name, "linear", step, world);
    const { dense } = world.probeTargets;
    if (dense) recordProbes(run, result.dense, dense.name, "dense", step, world);
    const record = { fingerprint: this.#fingerprint(world), result: storable(result) };
    await writeWhole(`${run.dir}/result.json`, JSON.stringify(record) + "\n");
  }

  #fingerprint(world: DemoWorld): string {
    const { fingerprint, settings } = this.#options;
    const parts = [fingerprint, settings.values, world.key, world.digest ?? null];
    return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
  }
}

/** Removes an earlier run, and nothing that is not one. */
async function removeRun(dir: string): Promise<void> {
  try {
    await Deno.stat(`${dir}/run.json`);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return;
    throw cause;
  }
  await Deno.remove(dir, { recursive: true });
}

function recordAnswers(run: Run, world: DemoWorld, { answers, budget }: ArmResult): void {
  for (const { name } of world.questions) {
    const some = answers.filter((answer) => answer.name === name);
    if (some.length === 0) continue;
    const right = some.map(({ correct }) => Number(correct));
    const { value, low, high } = accuracyInterval(right, some.map(({ item }) => item));
    run.evaluation({
      step: budget.steps,
      benchmark: `${world.key}-${name}`,
      version: 1,
      scorer: "greedy-exact",
      split: "test",
      weights: "raw",
      n: some.length,
      value,
      low,
      high,
      items: some.map(({ item, answer, target, correct }, i) => ({
        item: `${item}/${name}-${i}`,
        answer,
        target,
        score: Number(correct),
      })),
    });
  }
}

function recordProbes(
  run: Run,
  points: ProbePoint[],
  target: string,
  kind: "linear" | "dense",
  step: number,
  world: DemoWorld,
): void {
  for (const { site, value, low, high } of points) {
    const n = world.probeImages.length;
    run.probe({ site, step, target, kind, control: "none", split: "test", value, low, high, n });
  }
}

function storable(result: ArmResult): unknown {
  const pictures = result.drawn?.pictures.map(({ width, height, data }) => ({
    width,
    height,
    data: Array.from(data, (v) => Number(v.toFixed(4))),
  }));
  return { ...result, drawn: result.drawn && { ...result.drawn, pictures } };
}

function revive(result: ArmResult): ArmResult {
  if (!result.drawn) return result;
  const pictures = result.drawn.pictures.map((picture): Pixels => ({
    ...picture,
    data: Float32Array.from(picture.data),
  }));
  return { ...result, drawn: { ...result.drawn, pictures } };
}
