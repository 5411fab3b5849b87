// Reads a checkpoint: its record, and its tensors one by one through the strict reader.

import { fileReason } from "../../data/jsonl.ts";
import { openSafetensors, type Safetensors } from "../../data/safetensors.ts";
import { InputError } from "../../errors.ts";
import { readManifest, verifyFolder } from "./manifest.ts";
import { STATE } from "./snapshot.ts";

/** An open checkpoint; {@link OpenSnapshot.close} it when done. */
export interface OpenSnapshot {
  /** Steps done. */
  readonly step: number;
  /** Number of the session that wrote it. */
  readonly session: number;
  /** The record, as it was given when it was saved; what it holds is for the caller to check. */
  readonly state: unknown;
  /** Names of the tensor files. */
  readonly names: readonly string[];
  /** An open tensor file. @throws {InputError} If the checkpoint has none of this name */
  file(name: string): Safetensors;
  close(): void;
}

/**
 * Opens a checkpoint folder.
 *
 * @param verify false: sizes and sums were checked just now, as `findCheckpoint` does. Default: true
 * @throws {InputError} If it is not whole, naming the file
 */
export async function openSnapshot(
  folder: string,
  { verify = true }: { verify?: boolean } = {},
): Promise<OpenSnapshot> {
  const manifest = await (verify ? verifyFolder : readManifest)(folder);
  const state = await readState(`${folder}/${STATE}`);
  const open = new Map<string, Safetensors>();
  const close = () => open.forEach((file) => file.close());
  try {
    for (const { name } of manifest.files) {
      if (name.endsWith(".safetensors")) open.set(name, await openSafetensors(`${folder}/${name}`));
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    step: manifest.step,
    session: manifest.session,
    state,
    names: [...open.keys()],
    file: (name) => {
      const file = open.get(name);
      if (file) return file;
      throw new InputError(`Cannot read ${folder}: it has no ${name}`, {
        help: `it has ${[...open.keys()].join(", ")}`,
      });
    },
    close,
  };
}

async function readState(path: string): Promise<unknown> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? "it is not JSON" : fileReason(cause);
    throw new InputError(`Cannot read ${path}: ${reason}`, { cause });
  }
}
