// Checkpoint folders for tests: a model of a few thousand weights in the reference's files, and ways to damage it.

import {
  openSafetensors,
  type TensorToWrite,
  writeSafetensors,
} from "../../lib/data/safetensors.ts";
import type { UniMedVLConfig } from "../../lib/model/config.ts";
import { synthCheckpoint, type SynthOptions } from "../../lib/model/synth.ts";
import { SMALL } from "./small.ts";

/** {@link SMALL} with an autoencoder, as the reference knows models. */
export const RELEASED: UniMedVLConfig = {
  ...SMALL,
  latent: {
    kind: "autoencoder",
    autoencoder: {
      resolution: 32,
      inChannels: 3,
      downsample: 2,
      ch: 32,
      outCh: 3,
      chMult: [1, 1],
      numResBlocks: 1,
      zChannels: 4,
      scaleFactor: 0.3611,
      shiftFactor: 0.1159,
    },
  },
  latentPatchSize: 2,
};

/** Runs with a folder that is removed afterwards. */
export async function inFolder(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "folder-" });
  try {
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Writes a folder with random weights and gives its path. */
export async function madeFolder(
  dir: string,
  name: string,
  options: Partial<SynthOptions> = {},
  config: UniMedVLConfig = RELEASED,
): Promise<string> {
  const path = `${dir}/${name}`;
  await synthCheckpoint(config, path, { seed: 5, drawn: 8191, ...options });
  return path;
}

/** Rewrites a file with its tensors and, where `change` returns it, its metadata changed. */
export async function rewrite(
  path: string,
  change: (tensors: Map<string, TensorToWrite>) => void | Record<string, string>,
  to = path,
): Promise<void> {
  const file = await openSafetensors(path);
  const tensors = new Map<string, TensorToWrite>();
  for (const [name, { dtype, shape }] of file.tensors) {
    if (dtype === "U8") tensors.set(name, { dtype, shape, data: await file.read(name) });
    else if (dtype === "I32") tensors.set(name, { dtype, shape, data: await file.readInt32(name) });
    else {
      const data = await file.readFloat32(name);
      tensors.set(name, { dtype: dtype as "F32" | "F16" | "BF16", shape, data });
    }
  }
  const before = Object.fromEntries(file.metadata);
  file.close();
  const metadata = change(tensors) ?? before;
  await writeSafetensors(to, tensors, metadata);
}

/** Changes a JSON file. */
export async function editJson(
  path: string,
  change: (json: Record<string, unknown>) => void,
): Promise<void> {
  const json = JSON.parse(await Deno.readTextFile(path));
  change(json);
  await Deno.writeTextFile(path, JSON.stringify(json));
}

/** Every file of a folder by name, as hex. */
export async function bytesOf(dir: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for await (const { name } of Deno.readDir(dir)) {
    files.set(name, (await Deno.readFile(`${dir}/${name}`)).toHex());
  }
  return new Map([...files].sort(([a], [b]) => a < b ? -1 : 1));
}
