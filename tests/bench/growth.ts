// How time and memory of a training step grow with packed tokens: with the number of samples (everything linear), and
// with the length of one sample (attention alone quadratic). Slopes are those of log-log fits.

import { type CommandSpec, type Context, runCommand } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { packBatch } from "../../lib/data/pack.ts";
import type { Sample } from "../../lib/data/sample.ts";
import { EXIT, UsageError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/gpu/buffers.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { initModel } from "../../lib/model/init.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { readCommit } from "../../lib/study/provenance.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import type { Objective } from "../../lib/train/objective.ts";
import { trainStep } from "../../lib/train/step.ts";
import { PACK } from "../model/small.ts";
import { fixedWait, logSlope, median } from "./measure.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const WIDTH = 256;
const SAMPLE = 256; // tokens of a sample, where their number grows
const MEMORY = 2 * 2 ** 30;
/** Kernels that look at pairs of tokens. */
const PAIRS = /attention/;

const FLAGS = {
  tokens: {
    type: "list",
    default: ["1024", "2048", "4096", "8192", "16384"],
    unit: "N",
    help: "packed tokens, multiples of 256, three or more",
  },
  lengths: {
    type: "list",
    default: ["256", "512", "1024", "2048"],
    unit: "N",
    help: "tokens of one sample, three or more",
  },
  repeats: { type: "integer", default: 2, min: 1, help: "steps timed at each size" },
} as const satisfies Flags;

const SPEC = {
  name: "bench:growth",
  purpose: "Fits how a training step's time and memory grow with its tokens.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [["deno task bench:growth --tokens 512,1024,2048", "a short look"]],
} as const satisfies CommandSpec<typeof FLAGS>;

/** The demo's model at width 256. */
function wide(): UniMedVLConfig {
  const { language, vision, ...rest } = PRESETS.tiny;
  return {
    ...rest,
    language: {
      ...language,
      hiddenSize: WIDTH,
      intermediateSize: 2 * WIDTH,
      numAttentionHeads: 8,
      numKeyValueHeads: 8,
    },
    vision: { ...vision, hiddenSize: WIDTH, intermediateSize: 2 * WIDTH, numAttentionHeads: 8 },
  };
}

/** Samples of text, each of `length` packed tokens with their two marks, all predicted. */
function textObjective(samples: number, length: number): Objective {
  const ids = Array.from({ length: length - 2 }, (_, i) => 8 + (i * 37) % 100);
  const sample: Sample = { plan: [{ type: "text", loss: true, ids }] };
  const packed = packBatch(Array.from({ length: samples }, () => sample), PACK);
  return { name: "text", inputs: { packed } };
}

interface Point {
  tokens: number;
  /** Device milliseconds of kernels on pairs of tokens, and of all others. */
  attentionMs: number;
  otherMs: number;
  /** Wall milliseconds of the step, timed without timestamps. */
  stepMs: number;
  /** Memory in use at most, and what of it is the model with its optimizer. */
  peakBytes: number;
  modelBytes: number;
}

async function measure(samples: number, length: number, repeats: number): Promise<Point> {
  const objective = textObjective(samples, length);
  const tokens = objective.inputs.packed.sequenceLength;
  const run = async (gpu: Gpu, use: (step: () => Promise<void>) => Promise<void>) => {
    const model: UniMedVL = initModel(gpu, wide(), 1);
    const optimizer = new AdamW(model.parameters);
    await use(async () => {
      const metrics = trainStep(model, optimizer, [objective], { learningRate: 1e-4 });
      await gpu.settle();
      const [loss] = await metrics.get("text")!.floats();
      if (!Number.isFinite(loss)) throw new Error(`the loss at ${tokens} tokens is ${loss}`);
      for (const tensor of metrics.values()) tensor.dispose();
    });
    gpu.close();
  };
  const point: Point = {
    tokens,
    attentionMs: 0,
    otherMs: 0,
    stepMs: 0,
    peakBytes: 0,
    modelBytes: 0,
  };
  const plain = await openDevice({ budgetBytes: MEMORY });
  const waitMs = await fixedWait(() => plain.settle());
  await run(plain, async (step) => {
    await step();
    const times: number[] = [];
    for (let i = 0; i < repeats; i++) {
      const start = performance.now();
      await step();
      times.push(performance.now() - start - 2 * waitMs);
    }
    point.stepMs = median(times);
    point.peakBytes = plain.buffers.peakBytes;
    point.modelBytes = plain.buffers.liveBytes;
  });
  const timed = await openDevice({ budgetBytes: MEMORY, profile: true });
  await run(timed, async (step) => {
    await step();
    const mark = timed.profile!.mark();
    await step();
    for (const { label, milliseconds } of await timed.profile!.sequence(mark)) {
      if (PAIRS.test(label)) point.attentionMs += milliseconds;
      else point.otherMs += milliseconds;
    }
  });
  return point;
}

/** Numbers of a list flag. @throws {UsageError} If one is no multiple of `step`, or there are fewer than two */
function sizesOf(flag: string, values: readonly string[], step: number): number[] {
  const sizes = values.map(Number);
  const wrong = sizes.findIndex((n) => !(Number.isInteger(n) && n >= 8 && n % step === 0));
  if (wrong < 0 && new Set(sizes).size >= 2) return sizes;
  const what = wrong < 0 ? "fewer than two sizes" : `"${values[wrong]}"`;
  throw new UsageError(`Cannot fit a slope to ${flag}: ${what}`, {
    help: step > 1
      ? `give multiples of ${step}, such as 512,1024,2048`
      : "give such as 256,512,1024",
  });
}

async function main(context: Context<typeof FLAGS>): Promise<number> {
  const { flags, print, emit, note, signal } = context;
  const bySamples = sizesOf("--tokens", flags.tokens, SAMPLE)
    .map((n) => [n / SAMPLE, SAMPLE] as const);
  const byLength = sizesOf("--lengths", flags.lengths, 1).map((n) => [1, n] as const);
  const gpu = await openDevice();
  const adapter = gpu.adapter.name;
  gpu.close();
  const series = async (title: string, sizes: (readonly [number, number])[]) => {
    print(`${title} (attention and other: one step timed kernel by kernel)`);
    print(`  tokens  attention ms  other ms  step ms       peak`);
    const points: Point[] = [];
    for (const [samples, length] of sizes) {
      signal.throwIfAborted();
      const point = await measure(samples, length, flags.repeats);
      points.push(point);
      note(`${point.tokens} tokens: ${point.stepMs.toFixed(0)} ms`);
      print(
        [
          String(point.tokens).padStart(8),
          point.attentionMs.toFixed(0).padStart(14),
          point.otherMs.toFixed(0).padStart(10),
          point.stepMs.toFixed(0).padStart(9),
          formatBytes(point.peakBytes).padStart(11),
        ].join(""),
      );
    }
    const slope = (of: (p: Point) => number) =>
      logSlope(points.map((p) => [p.tokens, of(p)] as const)).toFixed(2);
    const slopes = {
      attention: slope((p) => p.attentionMs),
      other: slope((p) => p.otherMs),
      step: slope((p) => p.stepMs),
      memory: slope((p) => p.peakBytes - p.modelBytes),
    };
    print(
      `  slopes: attention ${slopes.attention}, other ${slopes.other}, step ${slopes.step}, ` +
        `memory beyond the model ${slopes.memory}\n`,
    );
    emit({ event: "series", title, points, slopes });
  };
  await series(`more samples of ${SAMPLE} tokens, width ${WIDTH}`, bySamples);
  await series(`one longer sample, width ${WIDTH}`, byLength);
  const date = new Date().toISOString().slice(0, 10);
  print(`${adapter}, ${date}, commit ${readCommit(ROOT)?.slice(0, 7) ?? "unknown"}`);
  return EXIT.done;
}

if (import.meta.main) await runCommand(SPEC, main);
