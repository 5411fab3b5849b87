// GFLOP/s of the matmul kernels, at cubes and at the shapes of a training step. The variants take turns in
// every round, so that their ratios survive a busy machine; every result is compared with the naive kernel's.
//
//   deno run -A tests/ops/matmul_bench.ts [MxNxK …]

import { openDevice } from "../../lib/gpu/device.ts";
import { withSplits } from "../../lib/ops/matmul_config.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import { describeMatmul } from "../../lib/ops/matmul_table.ts";
import { canRun, type MatmulTile, tileName } from "../../lib/ops/matmul_tile.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, normals } from "../helpers.ts";

const ROUNDS = 5;
const NAIVE_FLOP = 1e8; // the naive kernel is timed once, up to this size
const SAMPLE_FLOP = 2e8; // per sample: repeats make small products long enough to time
const CUBES = [256, 512, 1024].map((n) => `${n}x${n}x${n}`);
// Tokens × outputs × inputs forward (NT); inputs and outputs exchanged for dx (NN); weights for dW (TN).
const TRAINING = ["512x192x192", "1000x288x96", "1000x96x288", "96x96x1000", "288x96x1000"];
const LAYOUTS = { NN: [false, false], NT: [false, true], TN: [true, false] };

const gpu = await openDevice();
const naive: MatmulTile = { kernel: "naive", rowBlocks: 1, columnBlocks: 1 };
const tiles: MatmulTile[] = [
  naive,
  { kernel: "register", rowBlocks: 1, columnBlocks: 1 },
  { kernel: "register", rowBlocks: 2, columnBlocks: 2 },
  { kernel: "tiled", rowBlocks: 1, columnBlocks: 1, side: 8 },
  { kernel: "tiled", rowBlocks: 1, columnBlocks: 1, side: 16 },
  { kernel: "tiled", rowBlocks: 2, columnBlocks: 2, side: 16 },
  { kernel: "subgroup", rowBlocks: 4, columnBlocks: 1 },
  { kernel: "subgroup", rowBlocks: 8, columnBlocks: 1 },
];
const variants: Record<string, MatmulTile | undefined> = Object.fromEntries(
  tiles.filter((tile) => canRun(gpu, tile)).map((tile) => [tileName(tile), tile]),
);
variants["chosen here"] = undefined;

/** Milliseconds until the device is done; Deno adds a fixed wait, see `idleMs`. */
async function timeMs(run: () => void): Promise<number> {
  await gpu.settle();
  const start = performance.now();
  run();
  await gpu.settle();
  return performance.now() - start;
}

const tiny = Tensor.zeros(gpu, [4, 4]);
const tinySizes = { rows: 4, columns: 4, inner: 4, transposeA: false, transposeB: false };
let idleMs = Infinity;
for (let i = 0; i < 5; i++) {
  idleMs = Math.min(idleMs, await timeMs(() => product(tiny, tiny, tinySizes).dispose()));
}

const names = Object.keys(variants);
console.log(
  `GFLOP/s on ${gpu.adapter.name}; best of ${ROUNDS} rounds, less ${
    idleMs.toFixed(1)
  } ms of waiting`,
);
console.log(`choices: ${JSON.stringify(describeMatmul(gpu))}`);
console.log("MxNxK".padEnd(18), names.map((name) => name.padStart(24)).join(""));
for (const shape of Deno.args.length > 0 ? Deno.args : [...CUBES, ...TRAINING]) {
  const [rows, columns, inner] = shape.split("x").map(Number);
  const flop = 2 * rows * columns * inner;
  for (const [layout, [transposeA, transposeB]] of Object.entries(LAYOUTS)) {
    const a = Tensor.from(
      gpu,
      normals(rows * inner, 1),
      transposeA ? [inner, rows] : [rows, inner],
    );
    const b = Tensor.from(
      gpu,
      normals(inner * columns, 2),
      transposeB ? [columns, inner] : [inner, columns],
    );
    const sizes = { rows, columns, inner, transposeA, transposeB };
    const run = (name: string) => {
      const tile = variants[name];
      const choice = tile && withSplits(gpu, sizes, tile);
      return product(a, b, choice ? { ...sizes, choice } : sizes);
    };
    const results = names.map(run);
    const [expected, ...values] = await readAll(results);
    values.forEach((v, i) =>
      assertClose(v, expected, FORWARD, `${names[i + 1]} ${layout} ${shape}`)
    );
    for (const t of results) t.dispose();

    const best = names.map(() => Infinity);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, name] of names.entries()) {
        if (name === "naive" && (round > 0 || flop > NAIVE_FLOP)) continue;
        const repeats = name === "naive" ? 1 : Math.max(1, Math.round(SAMPLE_FLOP / flop));
        const ms = await timeMs(() => {
          for (let j = 0; j < repeats; j++) run(name).dispose();
        });
        best[i] = Math.min(best[i], Math.max(ms - idleMs, 1e-3) / repeats);
      }
    }
    const rates = best.map((ms) =>
      (ms === Infinity ? "-" : (flop / ms / 1e6).toFixed(1)).padStart(24)
    );
    console.log(`${layout} ${shape}`.padEnd(18), rates.join(""));
    a.dispose();
    b.dispose();
  }
}
gpu.close();
