// A model written as a folder that `openModel` reads: weights, config, vocabulary, defaults for drawing.

import type { WordTokenizer } from "../data/words.ts";
import { ResourceError } from "../errors.ts";
import { fileReason } from "../data/jsonl.ts";
import { saveModel } from "../model/checkpoint.ts";
import { writeConfig } from "../model/own_config.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { writeWhole } from "../write_whole.ts";
import { DEFAULTS_FILE, type DrawDefaults } from "./defaults.ts";

/**
 * Writes a small model's folder. Each file appears whole or not at all, the weights last.
 *
 * @param dir made if it is not there
 * @param draw how the model is drawn with, where that differs from the published one
 * @param dtype of the weights. Default: F16, half the size; F32 where training is to go on
 * @throws {ResourceError} If a file cannot be written
 */
export async function saveModelFolder(
  dir: string,
  model: UniMedVL,
  tokenizer: WordTokenizer,
  draw: DrawDefaults = {},
  dtype: "F16" | "F32" = "F16",
): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  await writeConfig(dir, model.config);
  await writeJson(`${dir}/words.json`, tokenizer);
  await writeJson(`${dir}/${DEFAULTS_FILE}`, { draw });
  await saveModel(model, `${dir}/model.safetensors`, { dtype });
}

async function writeJson(path: string, value: unknown): Promise<void> {
  try {
    await writeWhole(path, JSON.stringify(value) + "\n");
  } catch (cause) {
    throw new ResourceError(`Cannot write ${path}: ${fileReason(cause)}`, {
      cause,
      help: "check that the folder exists, is writable and has space",
    });
  }
}
