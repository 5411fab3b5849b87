// What a GPU makes of the published sizes: products, attention, one decoder layer of both experts at width 3584, and
// streams over arrays that no cache holds. Rows are named as in wide_torch.py, which prints the same on the same card.
// Launches are repeated until a sample is long beside Deno's fixed wait; results are checked before they are timed.

import { backward, noGrad, parameter } from "../../lib/autograd.ts";
import { type CommandSpec, type Context, runCommand } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { EXIT } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { decode, type Streams } from "../../lib/model/language.ts";
import { headSize, PRESETS } from "../../lib/model/config.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { adamwStep } from "../../lib/ops/adamw_step.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask } from "../../lib/ops/attention_mask.ts";
import { chooseMatmul, withSplits } from "../../lib/ops/matmul_config.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import { canRun, type MatmulTile, tileName } from "../../lib/ops/matmul_tile.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { ropeTables } from "../../lib/ops/rope.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { packRows } from "../../lib/packed_layout.ts";
import { sizeOf, Tensor, tidy } from "../../lib/tensor.ts";
import { streams } from "./ceilings.ts";
import { fixedWait, fmaCeiling } from "./measure.ts";
import { filled, ROUNDS, upperHalves, WideBench } from "./wide_bench.ts";

const PARTS = ["ceilings", "products", "attention", "layer", "streams"] as const;
const FLAGS = {
  only: { type: "list", choices: PARTS, default: PARTS, help: "some of the parts" },
  size: { type: "integer", default: 4096, unit: "N", help: "rows, columns and inner of products" },
  tokens: { type: "integer", default: 4096, unit: "N", help: "tokens of attention and layer" },
  budget: { type: "integer", default: 40, unit: "GIB", help: "device memory that may be used" },
} as const satisfies Flags;

const SPEC = {
  name: "bench:wide",
  purpose: "Times products, attention and a layer of the published sizes on a GPU.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [["deno task bench:wide --only products", "products of 4096 by every tile"]],
  exitCodes: { 1: "a result was wrong" },
} as const satisfies CommandSpec<typeof FLAGS>;

const LAYOUTS = { NT: [false, true], NN: [false, false], TN: [true, false] } as const;

async function products(bench: WideBench, n: number): Promise<void> {
  const { gpu } = bench;
  const host = [filled(n * n, 1), filled(n * n, 2)];
  const [a, b] = host.map((values) => Tensor.from(gpu, values, [n, n]));
  const tiles: MatmulTile[] = [[1, 1, 8], [2, 2, 8], [1, 1, 16], [2, 1, 16], [2, 2, 16]].map(
    ([rowBlocks, columnBlocks, side]) => ({ kernel: "tiled", rowBlocks, columnBlocks, side }),
  );
  tiles.push({ kernel: "register", rowBlocks: 2, columnBlocks: 2 });
  tiles.push({ kernel: "subgroup", rowBlocks: 8, columnBlocks: 1 });
  for (const [layout, [transposeA, transposeB]] of Object.entries(LAYOUTS)) {
    const sizes = { rows: n, columns: n, inner: n, transposeA, transposeB };
    const usual = tileName(chooseMatmul(gpu, sizes));
    for (const tile of tiles) {
      if (!canRun(gpu, tile) || (layout !== "NT" && tileName(tile) !== usual)) continue;
      const choice = withSplits(gpu, sizes, tile);
      const name = `product ${layout} ${n} ${tileName(tile)}${
        tileName(tile) === usual ? " (taken)" : ""
      }`;
      const c = product(a, b, { ...sizes, choice });
      const got = await c.floats();
      c.dispose();
      for (let i = 0; i < 64; i++) {
        const [row, column] = [(i * 977 + 13) % n, (i * 1543 + 7) % n];
        let want = 0;
        for (let k = 0; k < n; k++) {
          want += host[0][transposeA ? k * n + row : row * n + k] *
            host[1][transposeB ? column * n + k : k * n + column];
        }
        bench.check(name, got[row * n + column], want, Math.sqrt(n), 1e-4);
      }
      await bench.row(name, 2 * n ** 3, () => void product(a, b, { ...sizes, choice }));
    }
  }
  const sizes = { rows: n, columns: n, inner: n, transposeA: false, transposeB: true };
  for (const dtype of ["bf16", "int8", "int4"] as const) {
    const bytes = dtype === "bf16" ? upperHalves(host[1]) : packRows(host[1], n, dtype);
    const packed = Tensor.fromBytes(gpu, bytes, [n, n], dtype);
    await bench.row(`product NT ${n}, ${dtype} weights`, 2 * n ** 3, () => {
      product(a, packed, sizes);
    });
    packed.dispose();
  }
  for (const t of [a, b]) t.dispose();
}

/** Heads of the published model over one causal sample; flop are those of the pairs that see each other. */
async function attentions(bench: WideBench, n: number): Promise<void> {
  const { gpu } = bench;
  const { language } = PRESETS["unimedvl-14b"];
  const [H, K, D] = [
    language.numAttentionHeads,
    language.numKeyValueHeads,
    headSize(language),
  ];
  const sample = new Int32Array(n);
  const mask = attentionMask(gpu, { sample, split: sample, mode: sample });
  const host = [H, K, K, H].map((heads, i) => filled(n * heads * D, i + 1));
  const tensors = host.map((values, i) => Tensor.from(gpu, values, [n, [H, K, K, H][i], D]));
  const [q, k, v] = tensors.slice(0, 3).map(parameter);
  const dy = tensors[3];
  const y = noGrad(() => attention(q, k, v, mask));
  const got = await y.floats();
  y.dispose();
  for (const [i, h, d] of [[0, 0, 0], [n >> 1, H - 1, 5], [n - 1, 1, D - 1]]) {
    const g = Math.floor(h * K / H);
    let [sum, mixed] = [0, 0];
    for (let j = 0; j <= i; j++) {
      let dot = 0;
      for (let c = 0; c < D; c++) {
        dot += host[0][(i * H + h) * D + c] * host[1][(j * K + g) * D + c];
      }
      const p = Math.exp(dot / Math.sqrt(D));
      sum += p;
      mixed += p * host[2][(j * K + g) * D + d];
    }
    bench.check(`attention of query ${i}`, got[(i * H + h) * D + d], mixed / sum, 1, 1e-4);
  }
  const pairs = n * (n + 1) / 2;
  const name = `attention ${n} causal, ${H}/${K} heads of ${D}`;
  await bench.row(`${name}, forward`, 4 * D * H * pairs, () => {
    noGrad(() => attention(q, k, v, mask));
  });
  await bench.row(`${name}, both ways`, 14 * D * H * pairs, () => {
    backward(attention(q, k, v, mask), { seeds: [dy] });
  });
  for (const t of [q, k, v, dy, mask.table]) t.dispose();
}

/** One layer and the final norms: half of the tokens are the und expert's, the others the gen expert's. */
async function layer(bench: WideBench, n: number): Promise<void> {
  const { gpu } = bench;
  const preset = PRESETS["unimedvl-14b"];
  const config = { ...preset.language, numHiddenLayers: 1 };
  const p = new Parameters();
  for (const [name, shape] of parameterShapes({ ...preset, language: config })) {
    if (!/^(und|gen)\./.test(name)) continue;
    const ones = /[nN]orm\.weight$/.test(name);
    const size = sizeOf(shape);
    const values = ones ? new Float32Array(size).fill(1) : filled(size, name.length, 0.02);
    p.add(name, Tensor.from(gpu, values, shape));
  }
  const half = n >> 1;
  const ids = (from: number, to: number) =>
    Int32Array.from({ length: to - from }, (_, i) => from + i);
  const tables = (positions: Int32Array) =>
    ropeTables(gpu, positions, headSize(config), config.ropeTheta);
  const [first, second] = [ids(0, half), ids(half, n)];
  const sample = new Int32Array(n);
  const layout = {
    tokens: n,
    rows: { und: rowIndex(gpu, first, n), gen: rowIndex(gpu, second, n) },
    rope: { und: tables(first), gen: tables(second) },
    mask: attentionMask(gpu, { sample, split: sample, mode: sample }),
  };
  const { hiddenSize: width } = config;
  const inputs = [half, n - half].map((rows, i) =>
    Tensor.from(gpu, filled(rows * width, 31 + i), [rows, width])
  );
  const x: Streams = { und: parameter(inputs[0]), gen: parameter(inputs[1]) };
  const seeds = [half, n - half].map((rows) =>
    Tensor.from(gpu, filled(rows * width, 41, 0.01), [rows, width])
  );
  const both = () => {
    const out = decode(x, p, config, layout);
    return backward([out.und!, out.gen!], { seeds });
  };
  const grads = tidy(both);
  for (const [what, t] of [["und input", x.und!], ["gen q", p.get("gen.layers.0.attn.q.weight")]]) {
    const values = await grads.get(t as Tensor)!.floats();
    const size = values.reduce((sum, value) => sum + value * value, 0);
    if (!(size > 0 && size < Infinity)) bench.check(`gradient of ${what}`, size, 1, 1, 0);
  }
  for (const t of grads.values()) t.dispose();
  const kv = config.numKeyValueHeads * headSize(config);
  const weights = 2 * width * width + 2 * kv * width + 3 * config.intermediateSize * width;
  const pairs = n * (n + 1) / 2;
  const forward = 2 * n * weights + 4 * width * pairs;
  const name = `layer of two experts, ${n} tokens`;
  await bench.row(
    `${name}, forward`,
    forward,
    () => void noGrad(() => decode(x, p, config, layout)),
  );
  await bench.row(`${name}, both ways`, 6 * n * weights + 14 * width * pairs, () => void both());
  p.dispose();
  for (const t of [...inputs, ...seeds]) t.dispose();
}

/** Norms, softmax and updates over arrays larger than caches; bytes are those that must be moved. */
async function streaming(bench: WideBench, n: number): Promise<void> {
  const { gpu } = bench;
  const [rows, width] = [4 * n, 3584];
  const x = parameter(Tensor.from(gpu, filled(rows * width, 51), [rows, width]));
  const weight = parameter(Tensor.from(gpu, filled(width, 52), [width]));
  const dy = Tensor.from(gpu, filled(rows * width, 53), [rows, width]);
  const bytes = 4 * rows * width;
  const at = `${rows} × ${width}`;
  const run = (name: string, moved: number, launch: () => void) =>
    bench.row(name, moved * bytes, launch, "GB/s");
  await run(`softmax ${at}`, 2, () => void noGrad(() => softmax(x)));
  await run(`RMSNorm ${at}, forward`, 2, () => void noGrad(() => rmsNorm(x, weight)));
  await run(
    `RMSNorm ${at}, both ways`,
    7,
    () => void backward(rmsNorm(x, weight), { seeds: [dy] }),
  );
  const [w, m, v] = [0, 1, 2].map(() => Tensor.zeros(gpu, [rows * width]));
  const gradientScale = Tensor.from(gpu, [1], [1]);
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0, learningRate: 1e-3 };
  let step = 0;
  const g = dy.alias([rows * width]);
  await run(`AdamW ${rows * width}`, 7, () => {
    adamwStep(w, g, m, v, { ...options, step: ++step, gradientScale });
  });
  for (const t of [x, weight, dy, g, w, m, v, gradientScale]) t.dispose();
}

async function main(context: Context<typeof FLAGS>): Promise<number> {
  const { flags, print } = context;
  const gpu = await openDevice({ budgetBytes: flags.budget * 2 ** 30 });
  print(gpu.adapter.name);
  const bench = new WideBench(gpu, await fixedWait(() => gpu.settle()), context);
  const has = (part: typeof PARTS[number]) => flags.only.includes(part);
  if (has("ceilings")) {
    const { gflops } = await fmaCeiling(gpu, 3);
    const { copy, load, store } = await streams(gpu, 16 * flags.size ** 2 / 4, ROUNDS);
    print(`multiply-adds in registers ${(gflops / 1000).toFixed(1)} TFLOP/s`);
    print(`copy ${copy.toFixed(0)}, loads ${load.toFixed(0)}, stores ${store.toFixed(0)} GB/s`);
  }
  if (has("products")) await products(bench, flags.size);
  if (has("attention")) await attentions(bench, flags.tokens);
  gpu.buffers.trim();
  if (has("layer")) await layer(bench, flags.tokens);
  gpu.buffers.trim();
  if (has("streams")) await streaming(bench, flags.tokens);
  print(`most memory in use ${(gpu.buffers.peakBytes / 2 ** 30).toFixed(2)} GiB`);
  gpu.close();
  return bench.wrong === 0 ? EXIT.done : EXIT.fault;
}

if (import.meta.main) await runCommand(SPEC, main);
