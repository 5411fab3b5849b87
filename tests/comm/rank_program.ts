// One rank of the tests under mpirun: `rank_program.ts TASK out=FOLDER [key=value …]`. What a rank finds goes to a file of
// its own, one JSON value per line: mpirun mixes long lines of several ranks.

import assert from "node:assert/strict";
import { anyRank, checkAgreement } from "../../lib/comm/agree.ts";
import { LabError } from "../../lib/errors.ts";
import type { Communicator } from "../../lib/comm/communicator.ts";
import { openCommunicator } from "../../lib/comm/open.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { parameter } from "../../lib/autograd.ts";
import { Scope, Tensor } from "../../lib/tensor.ts";
import { GradientReducer } from "../../lib/train/reduce.ts";
import { checkSameWeights } from "../../lib/train/ranks.ts";
import { train, type TrainSettings } from "./train_task.ts";

/** Options as `key=value`. */
export type Settings = Readonly<Record<string, string>>;

/** Tells the test one result. */
function say(communicator: Communicator, { out }: Settings, result: unknown): void {
  const options = { append: true, create: true };
  Deno.writeTextFileSync(
    `${out}/rank-${communicator.rank}`,
    JSON.stringify(result) + "\n",
    options,
  );
}

/** Values that differ by rank and are exact in f32, so that any order of sums gives the same. */
const valueAt = (rank: number, i: number) => ((i * 7 + rank * 13) % 101) - 50;

async function operations(communicator: Communicator, settings: Settings): Promise<void> {
  const { rank, size } = communicator;
  const summed = (i: number) => {
    let sum = 0;
    for (let r = 0; r < size; r++) sum += valueAt(r, i);
    return sum;
  };
  for (const n of [0, 1, 5, 4096, 300_001]) {
    const values = Float32Array.from({ length: n }, (_, i) => valueAt(rank, i));
    await communicator.sum(values);
    assert.ok(values.every((v, i) => v === summed(i)), `sum of ${n}`);
  }
  // Several on their way at once, and a sum that f32 could not hold.
  const many = Array.from({ length: 20 }, (_, k) => new Float32Array(1000 + k).fill(rank + k));
  const sums = many.map((values) => communicator.sum(values));
  const [large, mixed] = await communicator.sumNumbers([2 ** 40 + rank, rank === 0 ? 0.1 : 0]);
  await Promise.all(sums);
  many.forEach((values, k) =>
    assert.ok(values.every((v) => v === size * k + (size * (size - 1)) / 2))
  );
  assert.equal(large, size * 2 ** 40 + (size * (size - 1)) / 2);
  assert.equal(mixed, 0.1);

  for (const root of [0, size - 1]) {
    const bytes = new Uint8Array(1000).fill(rank === root ? 7 : 0);
    await communicator.broadcast(bytes, root);
    assert.ok(bytes.every((b) => b === 7));
    const floats = new Float32Array([rank === root ? 1.5 : 0]);
    await communicator.broadcast(floats, root);
    assert.equal(floats[0], 1.5);
  }
  assert.throws(
    () => communicator.broadcast(new Uint8Array(1), size),
    /Cannot broadcast from rank/,
  );

  const counts = Array.from({ length: size }, (_, r) => r === 0 ? 0 : 1000 + r); // one rank has no share
  const all = counts.reduce((a, b) => a + b, 0);
  const start = counts.slice(0, rank).reduce((a, b) => a + b, 0);
  const whole = Float32Array.from({ length: all }, (_, i) => valueAt(rank, i));
  const part = await communicator.reduceScatter(whole, counts);
  assert.equal(part.length, counts[rank]);
  assert.ok(part.every((v, i) => v === summed(start + i)), "reduce-scatter");
  const gathered = await communicator.allGather(new Uint8Array(counts[rank]).fill(rank), counts);
  counts.forEach((n, r) => {
    const from = counts.slice(0, r).reduce((a, b) => a + b, 0);
    assert.ok(gathered.subarray(from, from + n).every((b) => b === r), "all-gather");
  });
  await assert.rejects(
    communicator.reduceScatter(whole, [...counts, all]),
    /one whole number each/,
  );
  await assert.rejects(communicator.allGather(new Uint8Array(3), counts), /Cannot share 3 values/);

  await communicator.barrier();
  assert.equal(await anyRank(communicator, rank === size - 1), true);
  assert.equal(await anyRank(communicator, false), false);
  say(communicator, settings, { done: "operations", localRank: communicator.localRank, size });
}

/** The last rank has another content, another number of contents, or another name. */
async function agreement(communicator: Communicator, settings: Settings): Promise<void> {
  const { rank, size } = communicator;
  const digests = (change: (map: Map<string, Uint8Array>) => void) => {
    const names = ["first", "second", "third"];
    const map = new Map(names.map((name) => [name, new Uint8Array(32).fill(name.length)]));
    if (rank === size - 1) change(map);
    return checkAgreement(communicator, "weights", map);
  };
  const refusals: string[] = [];
  const refused = (error: unknown) => {
    assert.ok(error instanceof LabError);
    refusals.push(error.message);
    return true;
  };
  await digests(() => {});
  await assert.rejects(digests((map) => map.get("second")![31] ^= 1), refused);
  await assert.rejects(digests((map) => map.delete("third")), refused);
  await assert.rejects(
    digests((map) => map.delete("third") && map.set("fourth", new Uint8Array(32))),
    refused,
  );
  await digests(() => {});
  say(communicator, settings, refusals);
}

/** Works until the last rank ends in the way `end` says. */
async function death(communicator: Communicator, settings: Settings): Promise<void> {
  const { end } = settings;
  const { rank, size } = communicator;
  await communicator.barrier();
  say(communicator, settings, { pid: Deno.pid });
  for (let i = 0;; i++) {
    await communicator.sum(new Float32Array(1000));
    if (rank !== size - 1 || i < 50) continue;
    if (end === "kill") Deno.kill(Deno.pid, "SIGKILL");
    if (end === "throw") throw new Error("a rank that throws");
    if (end === "abort") communicator.abort(5);
    if (end === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));
  }
}

/** Numbers of `key=value`, and `yes`. */
function trainSettings(settings: Settings): TrainSettings {
  const number = (key: string, otherwise: number) => Number(settings[key] ?? otherwise);
  return {
    steps: number("steps", 5),
    samples: number("samples", 12),
    micros: number("micros", 1),
    bucketBytes: number("bucketBytes", 2 ** 18),
    sharded: settings.sharded === "yes",
    ...(settings.width === undefined ? {} : { width: Number(settings.width) }),
  };
}

async function training(communicator: Communicator, settings: Settings): Promise<void> {
  const { result, model, gpu } = await train(communicator, trainSettings(settings));
  say(communicator, settings, result);
  if (settings.perturb === "yes" && communicator.rank === communicator.size - 1) {
    const weight = model.parameters.get("und.layers.1.mlp.up.weight");
    const values = await weight.floats();
    values[values.length - 1] += 1e-7;
    weight.write(values);
  }
  await checkSameWeights(communicator, model.parameters.entries());
  gpu.close();
}

/** Medians of what the cost model of experiments/scaling.md is made of. */
async function speeds(communicator: Communicator, settings: Settings): Promise<void> {
  const gpu = await openDevice({ tuned: false });
  const median = async (count: number, run: () => Promise<unknown>) => {
    const seconds: number[] = [];
    for (let i = 0; i < count; i++) {
      await communicator.barrier();
      const started = performance.now();
      await run();
      seconds.push((performance.now() - started) / 1000);
    }
    return seconds.sort((a, b) => a - b)[count >> 1];
  };
  const { size } = communicator;
  const rounds = 2 * (size - 1);
  const small = new Float32Array(16);
  const latency = await median(200, () => communicator.sum(small)) / rounds;
  const [short, long] = [2 ** 18, 2 ** 22].map((n) => new Float32Array(n)); // 1 MiB, a bucket here, and 16
  const bytes = short.byteLength;
  // A fixed time and a rate, from two sizes: Deno's waits for the device take about 11 ms, however small the copy.
  const rate = async (run: (values: Float32Array<ArrayBuffer>) => Promise<unknown>) => {
    const [first, second] = [await median(30, () => run(short)), await median(15, () => run(long))];
    const perByte = Math.max(1e-12, (second - first) / (long.byteLength - bytes));
    return { perSecond: 1 / perByte, fixed: Math.max(0, first - bytes * perByte) };
  };
  const travel = await rate((values) => communicator.sum(values));
  const tensors = new Map([short, long].map((v) => [v, Tensor.from(gpu, v, [v.length])]));
  const read = await rate((values) => tensors.get(values)!.read());
  const write = await rate((values) => {
    tensors.get(values)!.write(values);
    return gpu.settle();
  });
  for (const tensor of tensors.values()) tensor.dispose();
  const network = (2 * (size - 1) / size) * travel.perSecond;
  const wait = read.fixed + write.fixed;
  // Whole exchanges with nothing to hide behind: parameters that are their own losses.
  const exchanges: { megabytes: number; ms: number }[] = [];
  for (const buckets of [1, 3, 16, 64]) {
    const parameters = Array.from(
      { length: buckets },
      (_, i) => [`${i}`, parameter(Tensor.zeros(gpu, [short.length]))] as const,
    );
    const tensors = parameters.map(([, each]) => each);
    const reducer = new GradientReducer(communicator, parameters, { bucketBytes: bytes });
    const ms = 1000 * await median(9, async () => {
      const window = reducer.window();
      const scope = new Scope();
      await window.backward(scope, tensors, { seeds: tensors, retainGraph: true });
      const { gradients } = await window.finish();
      await gpu.settle();
      for (const gradient of gradients.values()) gradient.dispose();
      scope.close();
    });
    exchanges.push({ megabytes: buckets * bytes / 1e6, ms });
    for (const tensor of tensors) tensor.dispose();
  }
  const [readBack, writeBack] = [read.perSecond, write.perSecond];
  say(communicator, settings, { latency, network, wait, readBack, writeBack, exchanges });
  gpu.close();
}

const TASKS: Record<string, (communicator: Communicator, settings: Settings) => Promise<void>> = {
  operations,
  agreement,
  death,
  training,
  speeds,
};

if (import.meta.main) {
  const [task, ...rest] = Deno.args;
  const settings = Object.fromEntries(rest.map((pair) => pair.split("=") as [string, string]));
  const patience = settings.patienceMs === undefined
    ? {}
    : { patienceMs: Number(settings.patienceMs) };
  const communicator = await openCommunicator(patience);
  await TASKS[task](communicator, settings);
  communicator.finalize();
  Deno.exit(0);
}
