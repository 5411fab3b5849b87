// A model folder for tests of commands and of what opens folders: config, weights and vocabulary of the small
// model, as a released folder has them.

import { WordTokenizer } from "../../lib/data/words.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { saveModel } from "../../lib/model/checkpoint.ts";
import type { UniMedVLConfig } from "../../lib/model/config.ts";
import { writeConfig } from "../../lib/model/own_config.ts";
import { SMALL, smallModel } from "../model/small.ts";

/** The words of the folder's tokenizer: with the six special tokens as many as SMALL's token table holds. */
export const FOLDER_WORDS = [
  ..."what is this ? a the image shows lung lesion left right bright dark round no yes .".split(
    " ",
  ),
];

/**
 * Writes the small model of tests/model/small.ts to a fresh temporary folder, for the caller to remove: weights drawn
 * from the seed, never trained.
 *
 * @param config vocabulary size as SMALL's, else whatever the model allows
 * @returns the folder's path
 */
export async function modelFolder(gpu: Gpu, seed = 1, config: UniMedVLConfig = SMALL) {
  const dir = await Deno.makeTempDir({ prefix: "oka-model-" });
  const model = smallModel(gpu, seed, config);
  try {
    await saveModel(model, `${dir}/model.safetensors`);
  } finally {
    model.dispose();
  }
  await writeConfig(dir, config);
  await Deno.writeTextFile(`${dir}/words.json`, JSON.stringify(new WordTokenizer(FOLDER_WORDS)));
  return dir;
}
