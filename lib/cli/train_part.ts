// What `deno task train:vae` and `deno task train:vit` share: flags, settings from their layers, the device, the
// progress line, the model folder and the figure at the end.

import type { RecordSource } from "../data/training/source.ts";
import { UsageError } from "../errors.ts";
import { openDevice } from "../gpu/device.ts";
import type { Gpu } from "../gpu/device.ts";
import { partCourse } from "../session/part_course.ts";
import { openPartSource, splitText } from "../session/part_data.ts";
import {
  type Part,
  type PartLook,
  type PartSettings,
  type PartStep,
  trainPart,
} from "../session/part_training.ts";
import { saveFigure } from "../show/export.ts";
import { partFigure } from "../show/part_losses.ts";
import { SILENT, terminalProgress } from "../show/progress.ts";
import { readConfigFile, resolveConfig, type ResolvedConfig, setLayer } from "../study/config.ts";
import { readRun } from "../study/read_run.ts";
import { recordFault } from "../study/record_fault.ts";
import { hasBegun } from "../study/run_begun.ts";
import { parseFolder, runFolder } from "../study/run_folder.ts";
import { findCheckpoint } from "../train/checkpoint/find.ts";
import { surviveLoss } from "../train/recover.ts";
import type { Context } from "./command.ts";
import { argumentsToResume } from "./shell_words.ts";

/** The flags of both commands. */
export const partFlags = {
  data: {
    type: "string",
    unit: "PATH",
    help: "folder of images, folder or file of records, or phantoms (the default)",
  },
  steps: { type: "integer", min: 1, unit: "N", help: "updates in all" },
  size: { type: "integer", min: 1, unit: "PIXELS", help: "rows and columns of images" },
  seed: { type: "integer", min: 0, unit: "N", help: "of weights, order and noise" },
  config: { type: "string", unit: "FILE", help: "settings to change, one JSON record" },
  set: {
    type: "list",
    unit: "FIELD=VALUE,…",
    help: "settings, such as batch=16,learningRate=0.002; may be repeated",
  },
  run: {
    type: "string",
    unit: "DIR",
    help: "the run's folder, …/STUDY/ARM/seed-N (default runs/NAME/train/seed-SEED)",
  },
  resume: { type: "boolean", help: "go on from the newest whole checkpoint of the run" },
  adapter: {
    type: "string",
    default: "any",
    choices: ["any", "gpu", "software"],
    help: "what computes; any prefers hardware",
  },
  budget: { type: "bytes", default: "4GB", help: "most device memory" },
  printConfig: { type: "boolean", help: "print the settings and end" },
} as const;

type PartContext = Context<typeof partFlags>;

/** Settings with what every command's have. */
type Named = PartSettings & { name: string; data: string };

/** A part that was opened, and how its model folder is written. */
export interface OpenPart {
  part: Part & { dispose(): void };
  /** What the user should know before it begins. */
  warnings?: readonly string[];
  /** Writes the model's folder. @returns what to say of it */
  save(dir: string): Promise<string>;
}

/** What a command trains. */
export interface PartCommand<T extends Named> {
  /** As typed after `deno task`. */
  name: string;
  defaults: T;
  /** Only images are wanted: they need no texts. */
  textless: boolean;
  open(gpu: Gpu, settings: T, source: RecordSource): Promise<OpenPart>;
}

/** Trains a part, says how far it is, writes the model folder `RUN/model` and draws `RUN/figures/losses`. */
export async function runPart<T extends Named>(
  command: PartCommand<T>,
  context: PartContext,
): Promise<void> {
  const { flags, print, emit, note, terminal, signal } = context;
  const settings = settingsOf(command.defaults, flags);
  const { values } = settings;
  if (flags.printConfig) {
    emit({ event: "config", ...settings });
    return print(JSON.stringify(values, null, 2));
  }
  const run = flags.run?.replace(/\/+$/, "") ??
    runFolder("runs", values.name, "train", values.seed);
  const progress = flags.quiet ? SILENT : terminalProgress({
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
    terminal,
    columns: () => terminal ? Deno.consoleSize().columns : 80,
    now: () => performance.now(),
  });
  checkRun(run, flags.resume);
  note(`run: ${run}`);
  const source = await openPartSource(values.data, command.textless);
  try {
    await surviveLoss(async ({ number: earlier }) => {
      const gpu = await openDevice({ adapter: flags.adapter, budgetBytes: flags.budget });
      note(`adapter: ${gpu.adapter.name}${gpu.adapter.software ? " (software)" : ""}`);
      let open: OpenPart | undefined;
      try {
        note(`reading ${values.data}`);
        open = await command.open(gpu, values, source);
        const { split } = open.part;
        if (split) {
          note(splitText(split));
          emit({ event: "split", ...split });
        }
        for (const warning of open.warnings ?? []) context.warn(warning);
        let last: PartStep | undefined;
        let picture: PartLook["picture"];
        const resume = flags.resume || earlier > 0;
        const options = { run, resume, signal, argv: Deno.args, onNote: progress.note };
        for await (const step of trainPart(gpu, open.part, settings, options)) {
          last = step;
          emit({ event: "step", ...plain(step) });
          progress.update({
            label: values.name,
            step: step.number,
            total: step.total,
            fields: step.metrics,
          });
          if (step.look) progress.note(`step ${step.number}, held out: ${said(step.look.metrics)}`);
          picture = step.look?.picture ?? picture;
        }
        progress.done();
        const figure = await drawLosses(run);
        if (picture?.path) print(`${run}/${picture.path}: ${picture.kind}`);
        print(`${figure}: losses by step; their numbers are beside it in losses.csv`);
        emit({ event: "figure", path: figure });
        if (signal.aborted) {
          if (last) note(`saved after step ${last.number} of ${last.total}`);
          return;
        }
        const about = await open.save(`${run}/model`);
        if (last) note(`${last.seconds.toFixed(0)} s`);
        emit({ event: "saved", path: `${run}/model`, about });
        print(`${run}/model: ${about}`);
      } finally {
        progress.done();
        open?.part.dispose();
        gpu.close();
      }
    }, {
      lastCheckpoint: async () => (await findCheckpoint(run))?.step,
      onRestart: (_, loss) =>
        progress.note(`warning: ${loss}; starting again from the last checkpoint`),
    });
  } finally {
    source.close();
    if (signal.aborted) note(`to go on: deno task ${command.name} ${argumentsToResume(Deno.args)}`);
  }
}

/** Refuses a run that cannot be begun before its data is read. @throws {UsageError} With what to type instead */
function checkRun(run: string, resume: boolean): void {
  try {
    parseFolder(run);
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    const help = "give …/STUDY/ARM/seed-N, such as --run runs/chest/first/seed-0";
    throw new UsageError(cause.message, { help, cause });
  }
  if (resume || !hasBegun(run)) return;
  throw new UsageError(`Cannot start ${run}: this run exists`, {
    help: "go on with it by --resume, or name another folder by --run, such as " +
      `--run ${run.replace(/[^/]+(?=\/seed-\d+$)/, "again")}`,
  });
}

/** Draws the losses of a run. @returns the page's path */
async function drawLosses(run: string): Promise<string> {
  const record = readRun(run);
  const paths = await saveFigure(partFigure(partCourse(record)), `${run}/figures/losses`, {
    sources: { run, config: record.header.configSha256, sources: record.header.sourcesSha256 },
  }).catch((cause) => {
    throw recordFault(run, cause);
  });
  return paths.find((path) => path.endsWith(".html")) ?? paths[0];
}

/** Defaults < --config < flags < --set. */
function settingsOf<T extends Named>(
  defaults: T,
  { config, data, steps, size, seed, set = [] }: PartContext["flags"],
): ResolvedConfig<T> {
  const flags = Object.entries({ data, steps, size, seed }).filter(([, v]) => v !== undefined);
  return resolveConfig(defaults, [
    ...(config === undefined ? [] : [readConfigFile(config)]),
    ...flags.map(([name, value]) => ({ origin: `--${name}`, values: { [name]: value } })),
    setLayer(whole(set), defaults),
  ]);
}

/** Lists within `--set` were cut at their commas: what has no `=` belongs to the piece before. */
function whole(pieces: readonly string[]): string[] {
  const out: string[] = [];
  for (const piece of pieces) {
    if (piece.includes("=") || out.length === 0) out.push(piece);
    else out[out.length - 1] += `,${piece}`;
  }
  return out;
}

const said = (metrics: Record<string, number>) =>
  Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(3)}`).join(", ");

/** A step for programs: pictures stay in the run. */
function plain({ look, ...step }: PartStep): object {
  return look ? { ...step, heldOut: look.metrics } : step;
}
