// Does tuning on a few hundred questions collapse, and does LoRA over a 4-bit base help? All weights against adapters, with
// and without questions of the kind that the base knows, over several seeds; and whether a merged folder answers the same.

import { UsageError } from "../lib/errors.ts";
import { runCommand } from "../lib/cli/command.ts";
import { openDevice } from "../lib/gpu/device.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import { openModel } from "../lib/infer/open_model.ts";
import { saveLora } from "../lib/model/lora_file.ts";
import { mergeLora } from "../lib/model/lora_merge.ts";
import { quantizeCheckpoint } from "../lib/model/quantize.ts";
import type { UniMedVL } from "../lib/model/unimedvl.ts";
import { terminalProgress } from "../lib/show/progress.ts";
import { mean, tInterval } from "../lib/study/statistics.ts";
import { answerAll } from "../lib/study/vqa.ts";
import { writeWhole } from "../lib/write_whole.ts";
import { checkFolder } from "./demo/check.ts";
import { table } from "./demo/table.ts";
import { type Arm, openArm, putBack, tune, type Tuned } from "./finetune/arms.ts";
import { makeBase } from "./finetune/base.ts";
import { type FinetuneData, openFinetuneData, type Split, splitHeads } from "./finetune/data.ts";
import { measure, type Measures } from "./finetune/measure.ts";

/** What one arm came to with one seed. */
interface Outcome {
  arm: string;
  seed: number;
  parameters: number;
  secondsPerStep: number;
  curve: Tuned["curve"];
  bestStep: number;
  last: Measures;
  best: Measures;
  /** Shares of answers that a merged folder gives as the base with its adapter does, by stored dtype. */
  merged?: Record<string, number>;
}

const FLAGS = {
  data: { type: "string", default: "../shared/data/vqa-rad", unit: "DIR", help: "VQA-RAD" },
  out: {
    type: "string",
    default: "results/finetune-vqa-rad",
    unit: "DIR",
    help: "the base, adapters and results.json; a base that is there is used",
  },
  baseSteps: { type: "integer", default: 240, min: 1, unit: "steps", help: "of the base" },
  steps: { type: "integer", default: 120, min: 4, unit: "steps", help: "of every arm" },
  every: { type: "integer", default: 20, min: 1, unit: "steps", help: "between validations" },
  images: { type: "integer", default: 40, min: 1, help: "of heads to tune on, ten questions each" },
  batch: { type: "integer", default: 8, min: 1, help: "images of a batch, four questions each" },
  rank: { type: "integer", default: 8, min: 1, help: "of the adapters" },
  alpha: { type: "number", default: 16, help: "of the adapters" },
  rate: { type: "number", default: 1e-3, help: "learning rate of all weights" },
  loraRate: { type: "number", default: 1e-3, help: "learning rate of adapters" },
  seeds: { type: "integer", default: 3, min: 1, help: "how many: of split, order, adapters" },
  firstSeed: { type: "integer", default: 0, min: 0, help: "the first of the seeds" },
  tests: { type: "integer", default: 60, min: 1, help: "phantoms asked about, for forgetting" },
  arms: { type: "list", unit: "NAMES", help: "a subset of the arms" },
} as const;

const TARGETS = ["und.layers.*.{attn,mlp}", "vit.layers.*.{attn,mlp}", "connector", "text.head"];

await runCommand({
  name: "finetune-vqa-rad",
  purpose: "Tune a small model on a few hundred questions about heads, all weights or by LoRA.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [
    ["deno task finetune-vqa-rad", "all arms, three seeds"],
    ["deno task finetune-vqa-rad --seeds 1 --steps 20 --arms lora-int4", "a look"],
  ],
}, async ({ flags, signal, print, terminal }) => {
  await checkFolder(flags.out, "results");
  const gpu = await openDevice({ budgetBytes: 2 ** 31 });
  const data = await openFinetuneData(flags.data, flags.tests);
  const arms = chosen(flags);
  const progress = terminalProgress({
    terminal,
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
    now: () => performance.now(),
  });
  const folders = { f16: `${flags.out}/base`, int4: `${flags.out}/base-int4` };
  if (!await isFolder(folders.f16)) {
    await makeBase(gpu, data, folders.f16, flags.baseSteps, {
      signal,
      onStep: ({ number, metrics: { text, flow } }) =>
        progress.update({
          label: "base",
          step: number,
          total: flags.baseSteps,
          fields: { text, flow },
        }),
    });
  }
  if (!await isFolder(folders.int4)) {
    await quantizeCheckpoint(folders.f16, folders.int4, { to: "int4" });
  }
  const outcomes: Outcome[] = [];
  const untuned: (Measures & { base: string; seed: number })[] = [];
  for (let seed = flags.firstSeed; seed < flags.firstSeed + flags.seeds; seed++) {
    const split = splitHeads(data, flags.images, seed);
    for (const base of ["f16", "int4"] as const) {
      const open = await openModel(gpu, folders[base]);
      await open.need(["head", "und", "gen", "vit", "latent"]);
      untuned.push({ base, seed, ...await measure(open.model, data, split) });
      open.dispose();
    }
    for (const arm of arms) {
      const { model, dispose } = await openArm(gpu, arm, folders, data, seed);
      const { steps, every, batch } = flags;
      const course = { steps, every, images: batch, questions: 4, seed };
      const tuned = await tune(model, arm, data, split, course, {
        signal,
        onStep: (step, loss) =>
          progress.update({
            label: `${arm.name} seed ${seed}`,
            step,
            total: flags.steps,
            fields: { text: loss },
          }),
      });
      const last = await measure(model, data, split);
      putBack(tuned, tuned.best);
      const best = await measure(model, data, split);
      const { curve, parameters, secondsPerStep } = tuned;
      const outcome: Outcome = {
        ...{ arm: arm.name, seed, parameters, secondsPerStep, curve, bestStep: tuned.best.step },
        ...{ last, best },
      };
      if (arm.lora) {
        putBack(tuned, tuned.last);
        const at = `${flags.out}/${arm.name}-${seed}`;
        outcome.merged = await compareMerged(gpu, model, folders[arm.base], at, data, split);
      }
      outcomes.push(outcome);
      dispose();
      await writeWhole(
        `${flags.out}/results.json`,
        JSON.stringify({ flags, arms, untuned, outcomes }, null, 1) + "\n",
      );
    }
  }
  progress.done();
  print(summary(arms, untuned, outcomes));
  print(`${flags.out}/results.json`);
  gpu.close();
});

/** What arms are made of. */
interface ArmFlags {
  rank: number;
  alpha: number;
  rate: number;
  loraRate: number;
  arms?: readonly string[] | undefined;
}

/** All arms, or those that were asked for. @throws {UsageError} If there is no such arm */
function chosen({ rank, alpha, rate, loraRate, arms }: ArmFlags): Arm[] {
  const lora = { rank, alpha, targets: TARGETS };
  const all: Arm[] = [
    { name: "full", base: "f16", learningRate: rate, replay: 0 },
    { name: "full-slow", base: "f16", learningRate: rate / 10, replay: 0 },
    { name: "full-replay", base: "f16", learningRate: rate, replay: 0.25 },
    { name: "lora-f16", base: "f16", lora, learningRate: loraRate, replay: 0 },
    { name: "lora-int4", base: "int4", lora, learningRate: loraRate, replay: 0 },
    { name: "lora-int4-replay", base: "int4", lora, learningRate: loraRate, replay: 0.25 },
  ];
  const wrong = arms?.find((name) => !all.some((arm) => arm.name === name));
  if (wrong === undefined) return all.filter(({ name }) => arms?.includes(name) ?? true);
  throw new UsageError(`Cannot tune by ${wrong}: there is no such arm`, {
    help: `arms are ${all.map(({ name }) => name).join(", ")}`,
  });
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Merges an adapter and asks everything about heads: which share of the answers is the same? */
async function compareMerged(
  gpu: Gpu,
  model: UniMedVL,
  base: string,
  at: string,
  { tokenizer, pack, maxWords }: FinetuneData,
  split: Split,
): Promise<Record<string, number>> {
  const items = [...split.tune, ...split.validation, ...split.test];
  const ask = async (asked: UniMedVL) =>
    (await answerAll(asked, tokenizer, items, pack, { maxWords, batch: 16 }))
      .map(({ answer }) => answer);
  const adapter = `${at}.safetensors`;
  await saveLora(model, adapter);
  const wanted = await ask(model);
  const shares: Record<string, number> = {};
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    const folder = `${at}-${dtype}`;
    if (await isFolder(folder)) await Deno.remove(folder, { recursive: true });
    await mergeLora(base, adapter, folder, { dtype });
    const open = await openModel(gpu, folder);
    await open.need(["head", "und", "vit"]);
    const got = await ask(open.model);
    shares[dtype] = got.filter((answer, i) => answer === wanted[i]).length / got.length;
    open.dispose();
    await Deno.remove(folder, { recursive: true });
  }
  return shares;
}

function summary(
  arms: readonly Arm[],
  untuned: readonly (Measures & { base: string })[],
  outcomes: readonly Outcome[],
): string {
  const interval = (values: number[], digits: number, factor = 1) => {
    const scaled = values.map((v) => factor * v);
    if (values.length < 2) return scaled[0].toFixed(digits);
    const { low, high } = tInterval(scaled);
    return `${mean(scaled).toFixed(digits)} ±${((high - low) / 2).toFixed(digits)}`;
  };
  const row = (name: string, all: readonly Measures[]) => [
    name,
    interval(all.map(({ tune }) => tune), 3),
    interval(all.map(({ test }) => test), 3),
    interval(all.map(({ closed }) => closed), 1, 100),
    interval(all.map(({ spread }) => spread.most), 1, 100),
    interval(all.map(({ spread }) => spread.entropy), 2),
    interval(all.map(({ general }) => general), 3),
    interval(all.map(({ phantoms }) => phantoms), 1, 100),
    interval(all.map(({ flow }) => flow), 4),
  ];
  const heads = ["", "loss tuned on", "loss held out", "closed right %", "commonest %", "bits"];
  const measures = table([
    [...heads, "loss chest, abdomen", "phantoms right %", "flow error"],
    ...["f16", "int4"].map((base) => row(`base ${base}`, untuned.filter((u) => u.base === base))),
    ...arms.flatMap(({ name }) => {
      const own = outcomes.filter(({ arm }) => arm === name);
      return [
        row(`${name}, last`, own.map(({ last }) => last)),
        row(`${name}, best`, own.map(({ best }) => best)),
      ];
    }),
  ]);
  const costs = table([
    ["", "trained numbers", "s / step", "best steps", "same answers merged f32 f16 bf16 %"],
    ...arms.map(({ name }) => {
      const own = outcomes.filter(({ arm }) => arm === name);
      const [{ parameters }] = own;
      return [
        name,
        String(parameters),
        mean(own.map(({ secondsPerStep }) => secondsPerStep)).toFixed(2),
        own.map(({ bestStep }) => bestStep).join(", "),
        own.map(({ merged }) =>
          merged ? Object.values(merged).map((s) => (100 * s).toFixed(1)).join(" ") : ""
        ).join("; "),
      ];
    }),
  ]);
  return `${measures}\n\n${costs}`;
}
