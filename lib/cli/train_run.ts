// A training as a command runs it: the device, the progress line, the figure at the end.

import type { Communicator } from "../comm/communicator.ts";
import { openDevice } from "../gpu/device.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import { courseOf } from "../session/course.ts";
import { train, type TrainStep } from "../session/train.ts";
import type { Validation } from "../session/validate.ts";
import { saveFigure } from "../show/export.ts";
import { percent } from "../show/figure.ts";
import { type Progress, type ProgressState, SILENT, terminalProgress } from "../show/progress.ts";
import { stagedFigure } from "../show/stage_losses.ts";
import { readRun } from "../study/read_run.ts";
import { recordFault } from "../study/record_fault.ts";
import { findCheckpoint } from "../train/checkpoint/find.ts";
import { surviveLoss } from "../train/recover.ts";
import type { Context } from "./command.ts";
import { argumentsToResume } from "./shell_words.ts";
import type { trainFlags } from "./train_flags.ts";
import type { TrainPlan } from "./train_plan.ts";

type TrainContext = Context<typeof trainFlags>;

/**
 * Trains, says how far it is, and draws the losses.
 *
 * @param open opens each try's device
 */
export async function trainRun(
  plan: TrainPlan,
  comm: Communicator,
  context: TrainContext,
  open: typeof openDevice = openDevice,
): Promise<void> {
  const { flags, print, emit, note, terminal, signal } = context;
  const { settings, run, findings } = plan;
  const first = comm.rank === 0;
  const progress = flags.quiet || !first ? SILENT : terminalProgress({
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
    terminal,
    columns: () => terminal ? Deno.consoleSize().columns : 80,
    now: () => performance.now(),
  });
  if (first) {
    for (const { path, message, help } of findings) context.warn(`${path}: ${message}; ${help}`);
    note(`run: ${run}`);
  }
  const started = performance.now();
  let last: TrainStep | undefined;
  const none = { number: 0, total: settings.values.stages.reduce((n, s) => n + s.steps, 0) };
  try {
    await surviveLoss(async ({ number: earlier }) => {
      const again = earlier > 0;
      const gpu = await open({ adapter: flags.adapter, budgetBytes: flags.budget });
      if (first) note(`adapter: ${gpu.adapter.name}${gpu.adapter.software ? " (software)" : ""}`);
      try {
        const steps = train(gpu, settings, {
          run,
          resume: flags.resume || again,
          ...(flags.step === undefined || again ? {} : { step: flags.step }),
          allowConfigChange: flags.allowConfigChange,
          comm,
          signal,
          argv: Deno.args,
          onNote: (text) => progress.note(text),
          onStage: (text) =>
            progress.update(stateOf(last ?? none, settings.values.name, gpu, text)),
        });
        for await (const step of steps) {
          last = step;
          show(step, settings.values.name, gpu, progress, emit);
        }
      } finally {
        gpu.close();
      }
    }, {
      lastCheckpoint: async () => (await findCheckpoint(run))?.step,
      onRestart: (_, loss) =>
        progress.note(`warning: ${loss}; starting again from the last checkpoint`),
    });
    progress.done();
  } catch (cause) {
    progress.done();
    throw cause;
  } finally {
    if (first && signal.aborted) note(`to go on: deno task train ${argumentsToResume(Deno.args)}`);
  }
  if (!first) return;
  const record = readRun(run);
  const figure = stagedFigure(courseOf(record));
  const paths = await saveFigure(figure, `${run}/figures/losses`, {
    sources: { run, config: record.header.configSha256, sources: record.header.sourcesSha256 },
  }).catch((cause) => {
    throw recordFault(run, cause);
  });
  const seconds = (performance.now() - started) / 1000;
  const memory = formatBytes(Deno.memoryUsage().rss);
  note(`${seconds.toFixed(0)} s, ${memory} resident`);
  if (last) print(summary(last, run));
  else print(`${run}: nothing is left to do, it had ended before`);
  print(paths.find((path) => path.endsWith(".html")) ?? paths[0]);
}

function show(
  step: TrainStep,
  name: string,
  gpu: Gpu,
  progress: Progress,
  emit: TrainContext["emit"],
): void {
  const { validation, ...plain } = step;
  emit({ event: "step", ...plain });
  progress.update(stateOf(step, name, gpu));
  if (!validation) return;
  const { text, flow, answers, drawings, lowest } = validation;
  const right = answers.filter(({ correct }) => correct).length;
  emit({
    event: "held out",
    step: step.number,
    text,
    flow,
    right,
    asked: answers.length,
    drawn: drawings.length,
    lowest: lowest ?? false,
  });
  progress.note(`step ${step.number}, held out: ${heldOutText(validation)}`);
}

/** A look at held-out data in a line: `text 0.343, flow 1.203 (lowest loss of this stage), 29 of 48 answers right`. */
export function heldOutText({ text, flow, answers, lowest }: Validation): string {
  const right = answers.filter(({ correct }) => correct).length;
  const losses = [
    text === undefined ? "" : `text ${text.toFixed(3)}`,
    flow === undefined ? "" : `flow ${flow.toFixed(3)}`,
  ].filter(Boolean).join(", ");
  return [
    losses + (lowest ? " (lowest loss of this stage)" : ""),
    answers.length === 0 ? "" : `${right} of ${answers.length} answers right`,
  ].filter(Boolean).join(", ");
}

/** A step, or where a training stands before its first one. */
export type Shown = Pick<TrainStep, "number" | "total"> & Partial<TrainStep>;

/** The least important first: what a narrow terminal does without. */
const SPARE = ["grad", "gpu", "label", "waiting", "bar", "stage", "tok/s"];

/** A step as the progress line shows it. @param doing what is being done now, if it is no step */
export function stateOf(
  step: Shown,
  name: string,
  gpu: { buffers: Pick<Gpu["buffers"], "liveBytes" | "budgetBytes"> },
  doing?: string,
): ProgressState {
  const { liveBytes, budgetBytes } = gpu.buffers;
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1);
  return {
    label: name,
    ...(step.stage === undefined ? {} : { stage: step.stage }),
    step: step.number,
    total: step.total,
    fields: {
      ...(step.text === undefined ? {} : { text: step.text }),
      ...(step.flow === undefined ? {} : { flow: step.flow }),
      ...(step.tokensPerSecond === undefined ? {} : { "tok/s": step.tokensPerSecond }),
      ...(step.waiting === undefined ? {} : { waiting: percent(step.waiting) }),
      ...(step.norm === undefined ? {} : { grad: step.norm }),
      gpu: `${gigabytes(liveBytes)}/${gigabytes(budgetBytes)} GB`,
      ...(doing ? { "": doing } : {}),
    },
    spare: SPARE,
  };
}

function summary(step: TrainStep, run: string): string {
  const { number, total, text, flow, waiting, leftOut } = step;
  const losses = [
    text === undefined ? "" : `text ${text.toFixed(3)}`,
    flow === undefined ? "" : `flow ${flow.toFixed(3)}`,
  ].filter(Boolean).join(", ");
  return `${run}: ${number} of ${total} steps, last losses ${losses}; ` +
    `${percent(waiting)} of the time was spent waiting for data` +
    (leftOut === 0 ? "" : `; a record that cannot be used was met ${leftOut} times`);
}
