// Optimizer steps against a fixture's optim.safetensors: AdamW with moments and averaged weights, clipping
// by the global norm, learning-rate tables.

import type { Gpu } from "../gpu/device.ts";
import { Parameters } from "../nn/parameters.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { AdamW } from "../train/adamw.ts";
import { learningRateAt, type Schedule } from "../train/schedule.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";
import { compareFloat, type Fixture, openFixture, type Row } from "./compare.ts";

const OPTIM = "optim.safetensors";
/** Rates are computed in f64 on both sides; the order of operations may differ. */
const RATE_RTOL = 1e-12;

/** One entry of `adamw_cases` in optim.json. */
interface AdamWCase {
  lr: number;
  lrs: number[];
  weight_decay: number;
  eps: number;
  betas: [number, number];
  warmup_steps: number;
  ema_decay: number;
}

/** One entry of `lr_schedules` in optim.json. */
interface RateTable {
  kind: Schedule["kind"];
  lr: number;
  min_lr?: number;
  warmup_steps: number;
  total_steps?: number;
  values: number[];
}

/**
 * Compares the optimizer cases of a fixture folder. A tensor to compare that nothing here computes is a
 * failed row.
 *
 * @throws {InputError} If the folder or a tensor a case needs is missing
 */
export async function checkOptim(gpu: Gpu, dir: string): Promise<Row[]> {
  const fixture = await openFixture(dir);
  try {
    const { adamw_cases, clip_total_norm, lr_schedules } = await fixture.json("optim.json");
    const rows: Row[] = [];
    for (const [name, given] of Object.entries<AdamWCase>(adamw_cases)) {
      rows.push(...await checkAdamW(gpu, fixture, name, given));
    }
    for (const [maxNorm, norm] of Object.entries<number>(clip_total_norm)) {
      rows.push(...await checkClip(gpu, fixture, Number(maxNorm), norm));
    }
    for (const [i, table] of (lr_schedules as RateTable[]).entries()) {
      rows.push(checkRates(`lr_schedules/${i} ${table.kind}`, table));
    }
    const compared = new Set(rows.map((row) => `${row.case}/${row.tensor}`));
    for (const name of fixture.names(OPTIM, "out").filter((name) => !compared.has(name))) {
      rows.push(compareFloat(name, [], await fixture.float(OPTIM, name), 0, 0));
    }
    return rows;
  } finally {
    await fixture.close();
  }
}

/** The tensors under a prefix, by the rest of their names. */
async function group(gpu: Gpu, fixture: Fixture, prefix: string): Promise<Map<string, Tensor>> {
  const found = new Map<string, Tensor>();
  for (const full of fixture.names(OPTIM).filter((name) => name.startsWith(prefix))) {
    const { data, shape } = await fixture.tensor(OPTIM, full);
    found.set(full.slice(prefix.length), Tensor.from(gpu, data as Float32Array, shape).keep());
  }
  return found;
}

async function compareAll(fixture: Fixture, values: Map<string, Tensor>): Promise<Row[]> {
  const has = new Set(fixture.names(OPTIM));
  const names = [...values.keys()].filter((name) => has.has(name));
  const data = await readAll(names.map((name) => values.get(name)!));
  return await Promise.all(names.map((name, i) => fixture.compare(OPTIM, name, data[i])));
}

async function checkAdamW(
  gpu: Gpu,
  fixture: Fixture,
  name: string,
  given: AdamWCase,
): Promise<Row[]> {
  const parameters = new Parameters();
  for (const [key, tensor] of await group(gpu, fixture, "param0/")) parameters.add(key, tensor);
  const optimizer = new AdamW(parameters, {
    beta1: given.betas[0],
    beta2: given.betas[1],
    epsilon: given.eps,
    weightDecay: given.weight_decay,
    emaDecay: given.ema_decay,
  });
  const { lr: learningRate, warmup_steps: warmupSteps, lrs } = given;
  const rates = lrs.map((_, k) => {
    return learningRateAt({ kind: "constant", learningRate, warmupSteps }, k);
  });
  const rows = [compareFloat(`${name}/lrs`, rates, lrs, 0, RATE_RTOL)];
  const one = Tensor.from(gpu, [1], [1]);
  for (const [k, rate] of rates.entries()) {
    const gradients = await group(gpu, fixture, `grad${k}/`);
    const byWeight = [...parameters.entries()].map(([key, weight]) =>
      [weight, gradients.get(key)!] as const
    );
    const collected = optimizer.collect(new Map(byWeight));
    const scaled = new Map(
      [...collected].map(([flatGroup, gradient]) => [flatGroup, { ...gradient, factor: one }]),
    );
    optimizer.step(scaled, rate);
    const values = new Map<string, Tensor>();
    const at = `${name}/step${k}/`;
    for (const [key, weight] of parameters.entries()) {
      values.set(at + key, weight);
      values.set(`${at}ema_${key}`, optimizer.ema.get(key)!);
      values.set(`${at}exp_avg_${key}`, optimizer.state.get(key)!.m);
      values.set(`${at}exp_avg_sq_${key}`, optimizer.state.get(key)!.v);
    }
    rows.push(...await compareAll(fixture, values));
    for (const { flat } of collected.values()) flat.dispose();
  }
  one.dispose();
  optimizer.dispose();
  parameters.dispose();
  return rows;
}

/** Clipped gradients as an update sees them: each times the factor left on the device. */
async function checkClip(
  gpu: Gpu,
  fixture: Fixture,
  maxNorm: number,
  norm: number,
): Promise<Row[]> {
  const gradients = await group(gpu, fixture, "grad0/");
  const [squares, factor] = tidy(() => {
    const squares = sumSquares([...gradients.values()]);
    return [squares, clipScale(squares, maxNorm)];
  });
  const name = `clip_${maxNorm}`;
  const [[squared], [scale]] = await readAll([squares, factor]);
  const rows = [compareFloat(`${name}/total_norm`, [Math.sqrt(squared)], [norm], 0, fixture.rtol)];
  for (const [key, gradient] of gradients) {
    const clipped = (await gradient.floats()).map((g) => g * scale);
    rows.push(await fixture.compare(OPTIM, `${name}/${key}`, clipped));
  }
  for (const tensor of [squares, factor, ...gradients.values()]) tensor.dispose();
  return rows;
}

function checkRates(name: string, table: RateTable): Row {
  const { kind, lr: learningRate, warmup_steps: warmupSteps, total_steps, min_lr } = table;
  const schedule: Schedule = { kind, learningRate, warmupSteps };
  if (total_steps !== undefined) schedule.totalSteps = total_steps;
  if (min_lr !== undefined) schedule.minLearningRate = min_lr;
  const rates = table.values.map((_, step) => learningRateAt(schedule, step));
  return compareFloat(name, rates, table.values, 0, RATE_RTOL);
}
