// The demo from start to result: opens the worlds, runs every arm, keeps what is finished.

import { createHash } from "node:crypto";
import { EXIT, InputError, LabError } from "../../lib/errors.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { warmStart } from "../../lib/model/checkpoint.ts";
import { initModel } from "../../lib/model/init.ts";
import { nameInReference } from "../../lib/model/weights.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import type { DemoResult } from "../../lib/show/demo_result.ts";
import { csvCell } from "../../lib/show/export.ts";
import type { Progress } from "../../lib/show/progress.ts";
import type { ResolvedConfig } from "../../lib/study/config.ts";
import { hashSources, readCommit } from "../../lib/study/provenance.ts";
import { takeLock } from "../../lib/study/run_folder.ts";
import { gradientRoutes, type RouteNorms } from "../../lib/study/routes.ts";
import { type ArmResult, flowObjective, measureArm, trainArm } from "./arm.ts";
import { removeOutputs } from "./check.ts";
import { type Arm, ARMS, type DemoConfig } from "./config.ts";
import { dataWorld } from "./data_world.ts";
import { demoResult, type WorldResult } from "./result.ts";
import { ArmStore } from "./store.ts";
import { type DemoWorld, phantomWorld } from "./world.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** The common start of all arms, made by experiments/make_init.ts. */
export const INIT_PATH = new URL("../init/tiny.safetensors", import.meta.url).pathname;

/** Arms of a world whose answer is not planted; `untrained` is the common start as it is. */
const NATURAL = [ARMS.untrained, ARMS.und, ARMS.joint];

/** What the caption says of it. */
const INIT_NOTE = "one common initialization that can draw phantoms from captions and codes from " +
  "words, and was never asked a question";

/** How the demo is run. */
export interface DemoOptions {
  /** Folder of results. */
  out: string;
  /** Use finished arms of `out` again. */
  resume: boolean;
  /** Real images instead of phantoms. */
  data?: string;
  progress: Progress;
  signal: AbortSignal;
  /** Said under the results. */
  remark?: string;
  onRoutes?: (routes: { name: string; norms: RouteNorms }[]) => void;
  onNote?: (text: string) => void;
}

/** What a run gives. */
export interface DemoOutcome {
  worlds: WorldResult[];
  result: DemoResult;
  /** One line per step of every arm. */
  metricsCsv: string;
}

/** Runs every arm of every world. @throws the signal's reason, when it is aborted */
export async function runDemo(
  gpu: Gpu,
  settings: ResolvedConfig<DemoConfig>,
  options: DemoOptions,
): Promise<DemoOutcome> {
  const { out, resume } = options;
  using _lock = holdFolder(out);
  if (!resume) await removeOutputs(out);
  const config = settings.values;
  const plans = await openWorlds(config, options);
  const sources = hashSources(ROOT);
  const start = await startDigest();
  const store = new ArmStore({ out, resume, settings, fingerprint: `${sources} ${start}` });
  await showRoutes(gpu, plans, config, options);
  const worlds: WorldResult[] = [];
  let parameters = 0;
  for (const { world, arms } of plans) {
    const done: ArmResult[] = [];
    for (const arm of arms) {
      const kept = await store.find(world, arm.name);
      if (kept) options.onNote?.(`${world.title}, ${arm.name}: kept from ${options.out}`);
      const model = await startModel(gpu, world, config);
      parameters = trainable(model);
      done.push(kept ?? await runArm(gpu, model, arm, world, config, store, options));
      model.dispose();
    }
    worlds.push({ world, arms: done });
  }
  const result = demoResult(worlds, config, {
    parameters,
    adapter: gpu.adapter.name + (gpu.adapter.software ? " (software)" : ""),
    commit: readCommit(ROOT)?.slice(0, 7) ?? `sources ${sources.slice(0, 7)}`,
    init: INIT_NOTE,
    ...(options.remark ? { remark: options.remark } : {}),
  });
  return { worlds, result, metricsCsv: metricsCsv(worlds) };
}

/**
 * The common weights. Only a data set with words of its own keeps drawn token tables.
 *
 * @throws {InputError} If the file is missing, damaged, or lacks a tensor the model has
 */
export async function startModel(
  gpu: Gpu,
  world: DemoWorld,
  config: DemoConfig,
): Promise<UniMedVL> {
  const model = initModel(gpu, world.model, config.seed);
  try {
    const { left } = await warmStart(model, INIT_PATH);
    const missing = left.filter((name) => world.key !== "data" || !name.startsWith("text."));
    if (missing.length === 0) return model;
    const names = missing.map(nameInReference).join(", ");
    throw new InputError(`Cannot start from ${INIT_PATH}: it has no fitting ${names}`, {
      help: "restore the file from the repository, or make it anew: deno task make-init",
    });
  } catch (cause) {
    model.dispose();
    throw cause;
  }
}

/** SHA-256 of the common weights. @throws {InputError} If the file is missing */
async function startDigest(): Promise<string> {
  try {
    return createHash("sha256").update(await Deno.readFile(INIT_PATH)).digest("hex");
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new InputError(`Cannot start: ${INIT_PATH} is missing`, {
      cause,
      help: "restore the file from the repository, or make it anew: deno task make-init",
    });
  }
}

function trainable(model: UniMedVL): number {
  let count = 0;
  for (const [, tensor] of model.parameters.entries()) {
    if (tensor.requiresGrad) count += tensor.size;
  }
  return count;
}

async function openWorlds(
  config: DemoConfig,
  { data, progress, signal }: DemoOptions,
): Promise<{ world: DemoWorld; arms: Arm[] }[]> {
  if (data === undefined) {
    progress.update({ label: "drawing phantoms", step: 0, total: 2 });
    await breathe(signal);
    const planted = phantomWorld("planted", config);
    await breathe(signal);
    const natural = phantomWorld("natural", config);
    await breathe(signal);
    return [
      { world: planted, arms: [...NATURAL, ARMS.blocked] },
      { world: natural, arms: NATURAL },
    ];
  }
  const world = await dataWorld(data, config, {
    signal,
    onProgress: (step, total) => progress.update({ label: "reading images", step, total }),
  });
  for (const line of world.notes ?? []) progress.note(line);
  return [{ world, arms: NATURAL }];
}

async function showRoutes(
  gpu: Gpu,
  plans: { world: DemoWorld }[],
  config: DemoConfig,
  options: DemoOptions,
): Promise<void> {
  const { world } = plans[plans.length - 1];
  const model = await startModel(gpu, world, config);
  const routes: { name: string; norms: RouteNorms }[] = [];
  for (const { name, sample } of world.routes) {
    await breathe(options.signal);
    const objective = flowObjective([sample], ARMS.joint, world, config, 0);
    routes.push({ name, norms: await gradientRoutes(model, objective) });
    const cut = flowObjective([sample], ARMS.blocked, world, config, 0);
    routes.push({ name: `${name}, blocked`, norms: await gradientRoutes(model, cut) });
  }
  model.dispose();
  options.onRoutes?.(routes);
}

async function runArm(
  gpu: Gpu,
  model: UniMedVL,
  arm: Arm,
  world: DemoWorld,
  config: DemoConfig,
  store: ArmStore,
  { progress, signal }: DemoOptions,
): Promise<ArmResult> {
  const label = `${world.title}, ${arm.name}`;
  const total = config.steps;
  const began = performance.now();
  const record = await store.open(gpu, world, arm.name);
  for (const note of record.notes) progress.note(note);
  let tokens = 0;
  try {
    if (arm.trained) {
      progress.update({ label, step: 0, total, fields: { "": "compiling kernels" } });
    }
    const trained = await trainArm(model, arm, world, config, {
      signal,
      onStep: (step) => {
        record.step(step);
        for (const n of Object.values(step.tokens)) tokens += n;
        const fields: Record<string, string | number> = { text: step.metrics.text.toFixed(3) };
        if (step.metrics.flow !== undefined) fields.flow = step.metrics.flow.toFixed(3);
        fields["tok/s"] = Math.round(tokens / step.seconds);
        progress.update({ label, step: step.number, total, fields });
      },
    });
    signal.throwIfAborted();
    const trainedAt = performance.now();
    const measured = await measureArm(model, arm, world, config, {
      signal,
      onStage: (stage) => progress.update({ label, step: total, total, fields: { "": stage } }),
    });
    const seconds = {
      train: (trainedAt - began) / 1000,
      measure: (performance.now() - trainedAt) / 1000,
    };
    const result: ArmResult = { arm: arm.name, ...trained, ...measured, seconds };
    await record.finish(model, result);
    return result;
  } catch (cause) {
    const { message } = cause as Error;
    record.interrupt(cause instanceof LabError ? cause.exitCode : EXIT.fault, message);
    throw cause;
  }
}

function metricsCsv(worlds: WorldResult[]): string {
  const names = ["text", "flow", "text/norm", "flow/norm"];
  const lines = [["world", "arm", "step", "learning rate", "seconds", ...names].join(",")];
  for (const { world, arms } of worlds) {
    for (const { arm, records } of arms) {
      for (const { number, learningRate, seconds, metrics } of records) {
        const values = names.map((name) => metrics[name] ?? null);
        const row = [world.key, arm, number, learningRate, seconds, ...values];
        lines.push(row.map(csvCell).join(","));
      }
    }
  }
  return lines.join("\n") + "\n";
}

/** Lets a signal arrive between two pieces of synchronous work. @throws its reason, when it has */
async function breathe(signal: AbortSignal): Promise<void> {
  await new Promise((done) => setTimeout(done, 0));
  signal.throwIfAborted();
}

/** One demo at a time writes a folder. @throws {BusyError} If another one does */
function holdFolder(out: string): Disposable {
  const lock = takeLock(out, () => new Date());
  return { [Symbol.dispose]: () => lock.close() };
}
