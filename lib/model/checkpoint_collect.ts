// Which of a folder's tensors is which parameter: the names in its files against the reference's.

import type { Safetensors } from "../data/safetensors.ts";
import { InputError } from "../errors.ts";
import { AUTOENCODER_FILE } from "./checkpoint_files.ts";
import type { StoredTensor } from "./checkpoint_folder.ts";
import { packedTensors } from "./checkpoint_packed.ts";
import { nameFromReference } from "./weights.ts";

/** As {@link StoredTensor}, with whatever dtype the file has. */
export interface FoundTensor extends Omit<StoredTensor, "dtype" | "file"> {
  file: Safetensors;
  dtype: string;
}

/**
 * All tensors of some files by the names that the model and its autoencoder have for them. `module.` is dropped.
 *
 * @param files by file name
 * @param index tensor name → file name; tensors it does not name are surplus
 * @throws {InputError} If a tensor is there twice or is not where the index says
 */
export function collectTensors(
  dir: string,
  files: ReadonlyMap<string, Safetensors>,
  index?: ReadonlyMap<string, string>,
): { model: Map<string, FoundTensor>; vae: Map<string, FoundTensor>; surplus: string[] } {
  const model = new Map<string, FoundTensor>(), vae = new Map<string, FoundTensor>();
  const surplus: string[] = [];
  const home = new Map<string, string>(); // where a name was seen first
  for (const [fileName, file] of files) {
    const packed = packedTensors(file);
    for (const [name, info] of file.tensors) {
      const bare = name.replace(/^(module\.)+/, "");
      const before = home.get(bare);
      if (before !== undefined) {
        const places = before === `${name} in ${fileName}`
          ? before
          : `${before} and ${name} in ${fileName}`;
        throw new InputError(`Cannot open ${dir}: a tensor is there twice, ${places}`, {
          help: "get the folder again; its files do not belong together",
        });
      }
      home.set(bare, `${name} in ${fileName}`);
      if (index && index.get(name) !== fileName) {
        const listed = index.get(name);
        if (listed !== undefined) {
          throw new InputError(
            `Cannot open ${dir}: the index has ${name} in ${listed}, it is in ${fileName}`,
            { help: "get the folder again; its files do not belong together" },
          );
        }
        surplus.push(name);
        continue;
      }
      const own = fileName === AUTOENCODER_FILE || bare.startsWith("vae_model.");
      const ours = own
        ? bare.replace(/^vae_model\./, "").replace(/^(module\.)+/, "")
        : nameFromReference(bare);
      if (ours === undefined) {
        surplus.push(name);
        continue;
      }
      const quantized = packed.get(name);
      (own ? vae : model).set(ours, {
        name,
        ours,
        file,
        dtype: quantized?.format ?? info.dtype,
        shape: quantized ? [quantized.rows, quantized.columns] : info.shape,
        bytes: info.end - info.begin,
      });
    }
  }
  for (const [name, fileName] of index ?? []) {
    if (files.get(fileName)?.tensors.has(name)) continue;
    throw new InputError(
      `Cannot open ${dir}: ${fileName} lacks ${name}, which the index has there`,
      {
        help: "get the folder again; its files do not belong together",
      },
    );
  }
  return { model, vae, surplus };
}
