// Adapters on the published sizes: does a step of LoRA over a packed base fit one card, how long does it take, and does
// the loss fall? The base is random: rows are packed once per shape and repeated, so that nothing has to be read.

import { Draws } from "../../lib/data/draws.ts";
import { normalNoise } from "../../lib/data/noise.ts";
import { packBatch } from "../../lib/data/pack.ts";
import { sinCosTable } from "../../lib/data/position_tables.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { type CommandSpec, type Context, runCommand } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { formatBytes } from "../../lib/gpu/buffers.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { shiftTimesteps } from "../../lib/model/batch.ts";
import { latentSize, latentStride, PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { attachLora } from "../../lib/model/lora.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import { UniMedVL } from "../../lib/model/unimedvl.ts";
import { FROZEN } from "../../lib/model/weights.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { packedRow, packRows } from "../../lib/packed_layout.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import type { Objective } from "../../lib/train/objective.ts";
import { TrainWindow } from "../../lib/train/window.ts";

const FLAGS = {
  layers: { type: "integer", default: 28, min: 1, help: "decoder layers of each expert" },
  vit: { type: "integer", default: 26, min: 1, unit: "N", help: "layers of the image encoder" },
  side: { type: "integer", default: 512, unit: "PIXELS", help: "side of the image that is drawn" },
  rank: { type: "integer", default: 8, min: 1, help: "of the adapters" },
  steps: { type: "integer", default: 6, min: 2, help: "updates on one batch" },
  budget: { type: "bytes", default: "70GB", help: "most device memory" },
} as const satisfies Flags;

const SPEC = {
  name: "bench:lora",
  purpose: "Trains adapters over a random int4 base of the published sizes.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [
    ["deno task bench:lora", "14.6 billion parameters on one card"],
    ["deno task bench:lora --layers 1 --vit 1 --side 64 --budget 4GB", "one layer of it"],
  ],
} as const satisfies CommandSpec<typeof FLAGS>;

/** Rows packed once per number of columns. */
const BLOCK = 256;

/** The published sizes with other depths. */
function configOf(layers: number, vit: number): UniMedVLConfig {
  const whole = PRESETS["unimedvl-14b"];
  return {
    ...whole,
    language: { ...whole.language, numHiddenLayers: layers },
    vision: { ...whole.vision, numHiddenLayers: vit },
  };
}

async function randomBase(gpu: Gpu, config: UniMedVLConfig): Promise<Parameters> {
  const parameters = new Parameters();
  const blocks = new Map<number, Uint8Array>();
  const blockOf = (columns: number) => {
    let block = blocks.get(columns);
    if (!block) {
      const draws = new Draws("base", columns);
      const values = Float32Array.from({ length: BLOCK * columns }, () => 0.02 * draws.grain());
      blocks.set(columns, block = packRows(values, columns, "int4"));
    }
    return block;
  };
  for (const [name, shape] of parameterShapes(config)) {
    if (FROZEN.has(name)) {
      const table = sinCosTable(Math.sqrt(shape[0]), shape[1]);
      parameters.add(name, Tensor.from(gpu, table, shape), false);
    } else if (shape.length === 1) {
      const value = /[nN]orm\.weight$/.test(name) ? 1 : 0;
      parameters.add(name, Tensor.from(gpu, new Float32Array(shape[0]).fill(value), shape), false);
    } else {
      const [rows, columns] = shape;
      const tensor = Tensor.exact(gpu, shape, "int4");
      const { rowBytes } = packedRow(columns, "int4");
      const block = blockOf(columns);
      for (let row = 0; row < rows; row += BLOCK) {
        const bytes = block.subarray(0, Math.min(BLOCK, rows - row) * rowBytes);
        gpu.write(tensor.buffer, bytes, row * rowBytes);
      }
      parameters.add(name, tensor, false);
    }
    await gpu.settle();
  }
  return parameters;
}

/** A question about an image, and an image drawn from a text. */
function objectiveOf(config: UniMedVLConfig, side: number): Objective {
  const draws = new Draws("batch");
  const image = (size: number): Pixels => ({
    height: size,
    width: size,
    data: Float32Array.from({ length: 3 * size * size }, () => draws.uniform(-1, 1)),
  });
  const words = (n: number) => Array.from({ length: n }, () => draws.below(100_000));
  const packed = packBatch([
    {
      plan: [
        { type: "vit_image", loss: false, image: image(224) },
        { type: "text", loss: false, ids: words(40) },
        { type: "text", loss: true, ids: words(40) },
      ],
    },
    {
      plan: [
        { type: "text", loss: false, ids: words(60) },
        { type: "vae_image", loss: true, image: image(side) },
      ],
    },
  ], {
    special: { bos: 151644, eos: 151645, soi: 151652, eoi: 151653 },
    vitPatch: config.vision.patchSize,
    latentPixels: latentStride(config),
    vitSide: config.vitMaxNumPatchPerSide,
    latentSide: config.maxLatentSize,
    drawTimestep: () => draws.normal(),
  });
  const numbers = packed.vaeTokenIndexes.length * latentSize(config);
  return {
    name: "all",
    inputs: {
      packed,
      latents: normalNoise(numbers, "latents"),
      noise: normalNoise(numbers, "noise"),
      timesteps: shiftTimesteps(packed.timesteps, 1),
    },
    textWeight: 0.25,
    checkpoint: { decoder: true, vit: true, connector: true },
  };
}

async function bench({ flags, print, note }: Context<typeof FLAGS>): Promise<void> {
  const gpu = await openDevice({ budgetBytes: flags.budget });
  note(`adapter: ${gpu.adapter.name}${gpu.adapter.software ? " (software)" : ""}`);
  const config = configOf(flags.layers, flags.vit);
  const started = performance.now();
  const model = new UniMedVL(gpu, config, await randomBase(gpu, config));
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const base = gpu.buffers.liveBytes;
  const count = (model.parameters.count / 1e9).toFixed(2);
  print(`base: ${count} billion parameters, int4, ${formatBytes(base)}, made in ${seconds} s`);
  const { layers, parameters } = attachLora(model, {
    rank: flags.rank,
    alpha: 2 * flags.rank,
    targets: ["{und,gen}.layers.*.{attn,mlp}"],
  });
  const optimizer = new AdamW(model.parameters);
  const objective = objectiveOf(config, flags.side);
  const tokens = objective.inputs.packed.sequenceLength;
  print(`adapters: ${layers.length} layers, ${(parameters / 1e6).toFixed(1)} million numbers`);
  print(`batch: ${tokens} tokens`);
  const times: number[] = [];
  for (let step = 0; step < flags.steps; step++) {
    const begun = performance.now();
    const window = new TrainWindow(model, optimizer);
    window.add(objective);
    const metrics = window.finish({ learningRate: 2e-4, maxNorm: 1 });
    const values = await readAll([...metrics.values()]);
    times.push(performance.now() - begun);
    const said = [...metrics.keys()].map((name, i) => `${name} ${values[i][0].toPrecision(4)}`);
    for (const tensor of metrics.values()) tensor.dispose();
    print(`step ${step + 1}: ${said.join(", ")}, ${times.at(-1)!.toFixed(0)} ms`);
  }
  const usual = times.slice(1).sort((a, b) => a - b)[Math.floor((times.length - 1) / 2)];
  print(
    `step ${usual.toFixed(0)} ms (median without the first), ${
      (1000 * tokens / usual).toFixed(0)
    } tokens/s, peak ${formatBytes(gpu.buffers.peakBytes)} of device memory`,
  );
  gpu.close();
}

await runCommand(SPEC, bench);
