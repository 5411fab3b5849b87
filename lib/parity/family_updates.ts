// The kernels that change weights, against the same three steps in plain f64: clipping by global norm, AdamW,
// moving averages; and weights rounded to bf16.

import { float32ToBf16 } from "../data/half.ts";
import type { Gpu } from "../gpu/device.ts";
import { adamwStep } from "../ops/adamw_step.ts";
import { emaStep } from "../ops/ema_step.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { roundBf16 } from "../ops/round_bf16.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";
import type { Row } from "./compare.ts";
import { FORWARD, normals, relativeRow } from "./family_check.ts";

/** The family's name: AdamW, EMA and clipping. */
export const UPDATES = "optimizer";

const SETTINGS = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const [STEPS, SIZE, MAX_NORM, DECAY] = [3, 1003, 1, 0.98];

/** Weights, both moments, the average and the last gradient's clipping factor after three steps. */
export async function checkUpdates(gpu: Gpu): Promise<Row[]> {
  const gradients = Array.from({ length: STEPS }, (_, step) => normals(SIZE, "gradient", step));
  const want = expected(gradients);
  const results = tidy(() => {
    const w = Tensor.from(gpu, normals(SIZE, "weights"), [SIZE]);
    const average = Tensor.from(gpu, normals(SIZE, "weights"), [SIZE]);
    const [m, v] = [Tensor.zeros(gpu, [SIZE]), Tensor.zeros(gpu, [SIZE])];
    let gradientScale = Tensor.zeros(gpu, [1]);
    for (const [i, gradient] of gradients.entries()) {
      const g = Tensor.from(gpu, gradient, [SIZE]);
      gradientScale = clipScale(sumSquares([g]), MAX_NORM);
      adamwStep(w, g, m, v, { ...SETTINGS, step: i + 1, gradientScale });
      emaStep(average, w, DECAY);
    }
    return { weights: w, "first moment": m, "second moment": v, average, factor: gradientScale };
  });
  const names = Object.keys(results) as (keyof typeof results)[];
  const got = await readAll(names.map((name) => results[name]));
  for (const name of names) results[name].dispose();
  const rows = names.map((name, i) => relativeRow(UPDATES, name, got[i], want[name], FORWARD));
  return [...rows, await checkRounding(gpu)];
}

/** Rounding is exact: the same bf16 as on the host, ties and both infinities among them. */
async function checkRounding(gpu: Gpu): Promise<Row> {
  const edges = [1.00390625, 1.01171875, -1.00390625, 3.4e38, -3.4e38, Infinity, -Infinity, 0];
  const values = Float32Array.from([...normals(SIZE, "rounding"), ...edges]);
  const x = Tensor.from(gpu, values, [values.length]);
  const halves = Tensor.empty(gpu, [values.length], "bf16");
  roundBf16(x, halves);
  const got = float32ToBf16(await halves.floats());
  const want = float32ToBf16(values);
  for (const tensor of [x, halves]) tensor.dispose();
  return relativeRow(UPDATES, "rounded to bf16", got, want, 0);
}

function expected(gradients: readonly Float32Array[]) {
  const { learningRate, beta1, beta2, epsilon, weightDecay } = SETTINGS;
  const w = Float64Array.from(normals(SIZE, "weights"));
  const average = w.slice();
  const [m, v] = [new Float64Array(SIZE), new Float64Array(SIZE)];
  let factor = 0;
  for (const [t, gradient] of gradients.entries()) {
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    factor = Math.min(1, MAX_NORM / (norm + 1e-6));
    for (let i = 0; i < SIZE; i++) {
      const g = factor * gradient[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const step = m[i] / (1 - beta1 ** (t + 1)) /
        (Math.sqrt(v[i] / (1 - beta2 ** (t + 1))) + epsilon);
      w[i] -= learningRate * (weightDecay * w[i] + step);
      average[i] = DECAY * average[i] + (1 - DECAY) * w[i];
    }
  }
  return { weights: w, "first moment": m, "second moment": v, average, factor: [factor] };
}
