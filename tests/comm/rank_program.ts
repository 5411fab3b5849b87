// One rank of the tests under mpirun: `rank_program.ts TASK [key=value …]`. What a rank finds is printed as one line
// `rank R: JSON`, so that the tests read all of them from mpirun's output.

import assert from "node:assert/strict";
import { anyRank, checkAgreement } from "../../lib/comm/agree.ts";
import type { Communicator } from "../../lib/comm/communicator.ts";
import { openCommunicator } from "../../lib/comm/open.ts";

/** Options as `key=value`. */
export type Settings = Readonly<Record<string, string>>;

const encoder = new TextEncoder();

/** Prints one result; written in one go, since several ranks share the pipe. */
export function say(communicator: Communicator, result: unknown): void {
  Deno.stdout.writeSync(encoder.encode(`rank ${communicator.rank}: ${JSON.stringify(result)}\n`));
}

/** Values that differ by rank and are exact in f32, so that any order of sums gives the same. */
const valueAt = (rank: number, i: number) => ((i * 7 + rank * 13) % 101) - 50;

async function operations(communicator: Communicator): Promise<void> {
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
  say(communicator, { done: "operations", localRank: communicator.localRank, size });
}

/** Ranks disagree on what `on` says: contents, number of contents, or names. */
async function agreement(communicator: Communicator, { on }: Settings): Promise<void> {
  const { rank, size } = communicator;
  const odd = rank === size - 1;
  const digests = new Map(
    ["first", "second", "third"].map((name) => [name, new Uint8Array(32).fill(name.length)]),
  );
  await checkAgreement(communicator, "weights", digests);
  if (odd && on === "contents") digests.get("second")![31] ^= 1;
  if (odd && on === "number") digests.delete("third");
  if (odd && on === "names") digests.set("fourth", digests.get("third")!);
  if (odd && on === "names") digests.delete("third");
  await checkAgreement(communicator, "weights", digests);
}

/** Works until the last rank ends in the way `end` says. */
async function death(communicator: Communicator, { end }: Settings): Promise<void> {
  const { rank, size } = communicator;
  await communicator.barrier();
  say(communicator, { pid: Deno.pid });
  for (let i = 0;; i++) {
    await communicator.sum(new Float32Array(1000));
    if (rank !== size - 1 || i < 50) continue;
    if (end === "kill") Deno.kill(Deno.pid, "SIGKILL");
    if (end === "throw") throw new Error("a rank that throws");
    if (end === "abort") communicator.abort(5);
    if (end === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));
  }
}

const TASKS: Record<string, (communicator: Communicator, settings: Settings) => Promise<void>> = {
  operations,
  agreement,
  death,
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
