// Single ops against a fixture's ops.safetensors: values, and gradients where the fixture has an upstream
// gradient. Sizes are the fixture's. Whole modules are in modules.ts, patches and position ids in transforms.ts.

import { backward, parameter } from "../autograd.ts";
import { sinCosTable, timestepFeatures } from "../data/position_tables.ts";
import type { Gpu } from "../gpu/device.ts";
import type { UniMedVLConfig } from "../model/config.ts";
import { readConfig } from "../model/read_config.ts";
import { timeEmbedding } from "../model/unimedvl.ts";
import { nameFromReference } from "../model/weights.ts";
import { swigluMlp } from "../nn/mlp.ts";
import { Parameters } from "../nn/parameters.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { inverseFrequencies, rope, ropeTables } from "../ops/rope.ts";
import { geluTanh, silu } from "../ops/unary.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";
import { type Fixture, openFixture, type Row } from "./compare.ts";

const OPS = "ops.safetensors";
const WEIGHTS = "model.safetensors";
/** Checked in modules.ts and transforms.ts. */
const ELSEWHERE = new Set(["siglip", "connector", "mot_layer", "patchify"]);
const MLP = "language_model.model.layers.0.mlp";

/** One case being checked. */
interface Case {
  gpu: Gpu;
  fixture: Fixture;
  config: UniMedVLConfig;
  /** The part of its tensors' names before the slash. */
  name: string;
}

type Check = (c: Case) => Promise<Row[]>;

/** A case of inputs named as the op's arguments, output `y`. */
function plain(inputs: string[], op: (inputs: Tensor[], config: UniMedVLConfig) => Tensor): Check {
  return async (c) => {
    const xs = await Promise.all(inputs.map((input) => load(c, input)));
    const named = new Map(inputs.map((input, i) => [input, xs[i]]));
    return await differentiate(c, named, () => op(xs, c.config), "y");
  };
}

const norm = plain(["x", "weight"], ([x, w], config) => rmsNorm(x, w, config.language.rmsNormEps));

const CHECKS: Record<string, Check> = {
  rmsnorm: norm,
  rmsnorm_head: norm,
  layernorm: plain(
    ["x", "weight", "bias"],
    ([x, w, b], config) => layerNorm(x, w, b, config.vision.layerNormEps),
  ),
  gelu_tanh: plain(["x"], ([x]) => geluTanh(x)),
  silu: plain(["x"], ([x]) => silu(x)),
  cross_entropy: async (c) => {
    const labels = await c.fixture.int(OPS, `${c.name}/labels`);
    const logits = await load(c, "logits");
    const loss = () => crossEntropy(logits, labels);
    return await differentiate(c, new Map([["logits", logits]]), loss, "y");
  },
  rotary: checkRotary,
  rotary_far: checkRotary,
  swiglu_mlp: checkMlp,
  timestep: checkTimestep,
  sincos: checkTables,
};

/**
 * Compares the single ops of a fixture folder. A tensor to compare that nothing here computes is a
 * failed row.
 *
 * @throws {InputError} If the folder or a tensor a case needs is missing
 */
export async function checkOps(gpu: Gpu, dir: string): Promise<Row[]> {
  const fixture = await openFixture(dir);
  try {
    const config = await readConfig(dir);
    const wanted = ["out", "grad", "prep"].flatMap((role) => fixture.names(OPS, role));
    const rows: Row[] = [];
    for (const name of new Set(fixture.names(OPS).map((tensor) => tensor.split("/")[0]))) {
      if (ELSEWHERE.has(name)) continue;
      const done = await CHECKS[name]?.({ gpu, fixture, config, name }) ?? [];
      const compared = new Set(done.map((row) => row.tensor));
      rows.push(...done);
      for (const full of wanted.filter((tensor) => tensor.startsWith(`${name}/`))) {
        const tensor = full.slice(name.length + 1);
        if (!compared.has(tensor)) rows.push(unknown(name, tensor));
      }
    }
    return rows;
  } finally {
    await fixture.close();
  }
}

function unknown(name: string, tensor: string): Row {
  const note = "no check computes this tensor";
  return { case: name, tensor, error: Infinity, tolerance: 0, ok: false, note };
}

/** Uploads an input and asks for its gradient. */
async function load({ gpu, fixture, name }: Case, input: string): Promise<Tensor> {
  const { data, shape } = await fixture.tensor(OPS, `${name}/${input}`);
  return parameter(Tensor.from(gpu, data as Float32Array, shape));
}

/** Compares output `out`, and with upstream gradient `g_out` the gradients `d_…` of the named inputs. */
async function differentiate(
  { gpu, fixture, name }: Case,
  inputs: Map<string, Tensor>,
  run: () => Tensor,
  out: string,
): Promise<Row[]> {
  const has = new Set(fixture.names(OPS));
  const g = `${name}/g_${out}`;
  const upstream = has.has(g) ? await fixture.float(OPS, g) : undefined;
  const results = tidy(() => {
    const y = run();
    const results = new Map([[out, y]]);
    if (!upstream) return results;
    const grads = backward(y, { seeds: [Tensor.from(gpu, upstream, y.shape)] });
    for (const [input, x] of inputs) {
      const grad = grads.get(x);
      if (grad) results.set(`d_${input}`, grad);
    }
    return results;
  });
  const names = [...results.keys()].filter((tensor) => has.has(`${name}/${tensor}`));
  const values = await readAll(names.map((tensor) => results.get(tensor)!));
  for (const tensor of [...results.values(), ...inputs.values()]) tensor.dispose();
  return await Promise.all(names.map((tensor, i) => {
    return fixture.compare(OPS, `${name}/${tensor}`, values[i] as Float32Array);
  }));
}

async function checkRotary(c: Case): Promise<Row[]> {
  const { gpu, fixture, name, config } = c;
  const theta = config.language.ropeTheta;
  const positions = await fixture.int(OPS, `${name}/position_ids`);
  const headSize = (await fixture.tensor(OPS, `${name}/q`)).shape.at(-1)!;
  const tables = ropeTables(gpu, positions, headSize, theta);
  const rows: Row[] = [];
  for (const [i, table] of (await readAll([tables.cos, tables.sin])).entries()) {
    const twice = new Float32Array(2 * table.length); // the reference repeats each row: [a | a]
    const pairs = headSize / 2;
    for (let n = 0; n < positions.length; n++) {
      const row = table.subarray(n * pairs, (n + 1) * pairs) as Float32Array;
      twice.set(row, n * headSize);
      twice.set(row, n * headSize + pairs);
    }
    rows.push(await fixture.compare(OPS, `${name}/${["cos", "sin"][i]}`, twice));
  }
  if (fixture.names(OPS).includes(`${name}/inv_freq`)) {
    const frequencies = inverseFrequencies(headSize, theta);
    rows.push(await fixture.compare(OPS, `${name}/inv_freq`, frequencies));
  }
  for (const input of ["q", "k"]) {
    const x = await load(c, input);
    const named = new Map([[input, x]]);
    rows.push(...await differentiate(c, named, () => rope(x, tables), `${input}_out`));
  }
  tables.cos.dispose();
  tables.sin.dispose();
  return rows;
}

/** Weights of the fixture's model under our names. */
async function weights(c: Case, names: string[]): Promise<Parameters> {
  const file = await c.fixture.file(WEIGHTS);
  const parameters = new Parameters();
  for (const name of names) {
    const data = await file.readFloat32(name);
    const ours = nameFromReference(name);
    if (ours) parameters.add(ours, Tensor.from(c.gpu, data, file.info(name).shape));
  }
  return parameters;
}

async function checkMlp(c: Case): Promise<Row[]> {
  const projections = ["gate_proj.weight", "up_proj.weight", "down_proj.weight"];
  const names = projections.map((name) => `${MLP}.${name}`);
  const all = await weights(c, names);
  const x = await load(c, "x");
  const inputs = new Map([["x", x]]);
  projections.forEach((name, i) => inputs.set(name, all.get(nameFromReference(names[i])!)));
  const mlp = all.sub(nameFromReference(names[0])!.replace(/\.gate\.weight$/, ""));
  return await differentiate(c, inputs, () => swigluMlp(x, mlp), "y");
}

async function checkTimestep(c: Case): Promise<Row[]> {
  const { gpu, fixture, name } = c;
  const t = await fixture.float(OPS, `${name}/t`);
  const features = timestepFeatures(t);
  const rows = [await fixture.compare(OPS, `${name}/sinusoid`, features)];
  const parts = ["0.weight", "0.bias", "2.weight", "2.bias"];
  const all = await weights(c, parts.map((part) => `time_embedder.mlp.${part}`));
  const y = tidy(() => {
    const x = Tensor.from(gpu, features, [t.length, features.length / t.length]);
    return timeEmbedding(x, all);
  });
  rows.push(await fixture.compare(OPS, `${name}/y`, await y.floats()));
  y.dispose();
  all.dispose();
  return rows;
}

async function checkTables({ fixture, name }: Case): Promise<Row[]> {
  const rows: Row[] = [];
  for (const full of fixture.names(OPS).filter((tensor) => tensor.startsWith(`${name}/`))) {
    const [count, dim] = (await fixture.tensor(OPS, full)).shape;
    rows.push(await fixture.compare(OPS, full, sinCosTable(Math.sqrt(count), dim)));
  }
  return rows;
}
