// What tests of checkpoints share: a small snapshot whose every byte follows from its step, and a look at what is on
// the disk.

import assert from "node:assert/strict";
import { findCheckpoint } from "../../../lib/train/checkpoint/find.ts";
import { verifyFolder } from "../../../lib/train/checkpoint/manifest.ts";
import { openSnapshot } from "../../../lib/train/checkpoint/open.ts";
import type { Snapshot, TensorEntry } from "../../../lib/train/checkpoint/snapshot.ts";
import { writeCheckpoint } from "../../../lib/train/checkpoint/write.ts";
import { normals } from "../../helpers.ts";

/** Tensors of one file: of two sizes of elements, one empty, one of a single value. */
function tensors(seed: number, scale: number): TensorEntry[] {
  const f32 = (name: string, shape: number[], at: number): TensorEntry => ({
    name,
    shape,
    dtype: "F32",
    read: () => {
      const values = normals(shape.reduce((n, d) => n * d, 1), 100 * seed + at);
      return Promise.resolve(new Uint8Array(values.buffer));
    },
  });
  const half: TensorEntry = {
    name: "und.layers.0.half",
    shape: [3, 5],
    dtype: "BF16",
    read: () => Promise.resolve(Uint8Array.from({ length: 30 }, (_, i) => (i * seed) & 255)),
  };
  return [
    half,
    f32("und.layers.0.weight", [7 * scale, 11], 1),
    f32("und.layers.0.bias", [1], 2),
    f32("gen.empty", [0, 4], 3),
  ];
}

/** Tensor files of a training run. */
export const FILES = ["model", "ema", "optimizer"] as const;

/**
 * A snapshot whose content follows from its step.
 *
 * @param names its tensor files, without the ending
 * @param scale rows of its largest tensors, in sevens
 */
export function snapshotOf(step: number, names: readonly string[] = FILES, scale = 1): Snapshot {
  return {
    step,
    files: names.map((name, i) => ({
      name: `${name}.safetensors`,
      tensors: tensors(3 * step + i, scale),
    })),
    state: { step, loader: { slots: [step, step + 1], drawn: 0.1 * step }, name: "zwölf" },
  };
}

/** Fails unless a folder is whole and holds, to the byte, the snapshot of this step. */
export async function assertHolds(
  path: string,
  step: number,
  names: readonly string[] = FILES,
  scale = 1,
): Promise<void> {
  const expected = snapshotOf(step, names, scale);
  const open = await openSnapshot(path);
  try {
    assert.equal(open.step, step);
    assert.deepEqual(open.state, expected.state);
    assert.deepEqual(open.names, expected.files.map(({ name }) => name));
    for (const { name, tensors } of expected.files) {
      const file = open.file(name);
      assert.equal(file.tensors.size, tensors.length);
      for (const tensor of tensors) {
        const { dtype, shape } = file.info(tensor.name);
        assert.deepEqual({ dtype, shape }, { dtype: tensor.dtype, shape: tensor.shape });
        assert.deepEqual(await file.read(tensor.name), new Uint8Array(await tensor.read()));
      }
    }
  } finally {
    open.close();
  }
}

/** Runs a test with a run folder that holds checkpoints of these steps. */
export async function withRun(
  steps: readonly number[],
  test: (runDir: string) => Promise<void>,
  names: readonly string[] = FILES,
): Promise<void> {
  const runDir = await Deno.makeTempDir();
  try {
    for (const step of steps) {
      await writeCheckpoint(runDir, snapshotOf(step, names), { keep: 99, session: 1 });
    }
    await test(runDir);
  } finally {
    await Deno.remove(runDir, { recursive: true });
  }
}

/** Names in the checkpoints folder of a run, sorted. */
export function namesIn(runDir: string): string[] {
  return [...Deno.readDirSync(`${runDir}/checkpoints`)].map(({ name }) => name).sort();
}

/** Fails if a folder with a step's final name is not whole. */
export async function assertNoHalves(runDir: string): Promise<void> {
  for (const name of namesIn(runDir)) {
    if (/^step-\d+$/.test(name)) await verifyFolder(`${runDir}/checkpoints/${name}`);
  }
}

/** The step a run would go on from. */
export async function newest(runDir: string): Promise<number | undefined> {
  return (await findCheckpoint(runDir))?.step;
}

/** Copies a folder with all in it. */
export function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}
