// Text inference against the reference: caches after reading, ids and logits of greedy writing, questions about
// an image, and the one-pass forward that must agree with the cached one.

import type { Gpu } from "../gpu/device.ts";
import { CachePool, type Context } from "../infer/cache.ts";
import { runPass } from "../infer/pass.ts";
import { writeText } from "../infer/text.ts";
import { vitTransform } from "../data/transforms.ts";
import { patchify, positionIds } from "../data/patches.ts";
import { compareExact, type Fixture, type Row } from "./compare.ts";
import { asText, compareCache, fixtureImage, type InferSetup, setUpInference } from "./infer.ts";
import { onePass } from "./infer_one_pass.ts";

const FILE = "infer_text.safetensors";

/** All of `infer_text`. */
export async function checkInferText(gpu: Gpu, fixture: Fixture): Promise<Row[]> {
  const setup = await setUpInference(gpu, fixture);
  try {
    return [
      ...await checkPrompt(setup, fixture),
      ...await checkEarlyStop(setup, fixture),
      ...await checkQuestion(setup, fixture),
      ...await checkBatch(setup, fixture),
      ...await onePass(setup, fixture),
    ];
  } finally {
    setup.dispose();
  }
}

/** The reference's own lists for a text, from where the context stood. */
async function comparePrompt(
  fixture: Fixture,
  prefix: string,
  ids: number[],
  length: number,
  position: number,
): Promise<Row[]> {
  const count = Array.from(ids, (_, i) => i);
  const lists: Record<string, number[]> = {
    key_values_lens: [length],
    packed_key_value_indexes: Array.from({ length }, (_, i) => i),
    packed_text_ids: ids,
    packed_text_indexes: count.map((i) => length + i),
    packed_text_position_ids: count.map((i) => position + i),
    text_token_lens: [ids.length],
  };
  const rows: Row[] = [];
  for (const [name, list] of Object.entries(lists)) {
    rows.push(await fixture.compare(FILE, `${prefix}/${name}`, list));
  }
  return rows;
}

async function compareStart(
  fixture: Fixture,
  prefix: string,
  setup: InferSetup,
  context: Context,
): Promise<Row[]> {
  const lists: Record<string, number[]> = {
    key_values_lens: [context.length],
    packed_key_value_indexes: Array.from({ length: context.length }, (_, i) => i),
    packed_query_position_ids: [context.rope],
    packed_start_tokens: [setup.special.bos],
  };
  const rows: Row[] = [];
  for (const [name, list] of Object.entries(lists)) {
    rows.push(await fixture.compare(FILE, `${prefix}/prepare_start_tokens/${name}`, list));
  }
  return rows;
}

/** Greedy writing: the recorded ids begin with the start token, which counts toward their number. */
export async function compareWriting(
  setup: InferSetup,
  fixture: Fixture,
  file: string,
  name: string,
  context: Context,
  maxLength: number,
): Promise<{ rows: Row[]; ids: number[] }> {
  const { model, special } = setup;
  const logits: number[] = [];
  const [written] = await writeText(model, special, [context], {
    maxTokens: maxLength,
    onLogits: (row) => logits.push(...row),
  });
  const ids = [special.bos, ...written.ids].slice(0, maxLength);
  return {
    ids,
    rows: [
      await fixture.compare(file, `${name}/generated_ids`, ids),
      await fixture.compare(file, `${name}/step_logits`, logits),
    ],
  };
}

async function checkPrompt(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings } = setup;
  const ids = asText(special, await fixture.int(FILE, "text/prompt_ids"));
  const { max_length } = settings.text;
  const pool = new CachePool(model.gpu, model.config.language, ids.length + max_length + 1);
  const context = pool.context();
  const rows = await comparePrompt(fixture, "text/prepare_prompts", ids, 0, 0);
  await runPass(model, special, [{ context, blocks: [{ kind: "text", ids }] }]);
  const cache = "text/cache_after_prefill";
  rows.push(...await compareCache(fixture, FILE, cache, pool, context, model));
  rows.push(...await compareStart(fixture, "text", setup, context));
  rows.push(...(await compareWriting(setup, fixture, FILE, "text", context, max_length)).rows);
  pool.dispose();
  return rows;
}

/** The same prompt with another end token. */
async function checkEarlyStop(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings } = setup;
  if (!settings.early_stop) return [];
  const ids = asText(special, await fixture.int(FILE, "text/prompt_ids"));
  const pool = new CachePool(model.gpu, model.config.language, ids.length + 64);
  const context = pool.context();
  await runPass(model, special, [{ context, blocks: [{ kind: "text", ids }] }]);
  const other = { ...special, eos: settings.early_stop.end_token_id };
  const [written] = await writeText(model, other, [context], {
    maxTokens: settings.text.max_length,
  });
  pool.dispose();
  const got = [special.bos, ...written.ids];
  return [compareExact("early_stop/generated_ids", got, settings.early_stop.generated)];
}

/** The chat path: an image for the ViT, a question, an answer. */
async function checkQuestion(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings, vitRule } = setup;
  const image = vitTransform(await fixtureImage(fixture, FILE, "vqa/image_u8"), vitRule);
  const ids = asText(special, await fixture.int(FILE, "vqa/prompt_ids"));
  const { patchSize } = model.config.vision;
  const grid = {
    rows: Math.floor(image.height / patchSize),
    columns: Math.floor(image.width / patchSize),
  };
  const n = grid.rows * grid.columns;
  const sequence = Array.from({ length: n + 2 }, (_, i) => i);
  const lists: Record<string, ArrayLike<number>> = {
    key_values_lens: [0],
    packed_indexes: sequence,
    packed_key_value_indexes: [],
    packed_position_ids: sequence.map(() => 0),
    packed_seqlens: [n + 2],
    packed_text_ids: [special.soi, special.eoi],
    packed_text_indexes: [0, n + 1],
    packed_vit_position_ids: positionIds(
      grid.rows,
      grid.columns,
      model.config.vitMaxNumPatchPerSide,
    ),
    packed_vit_token_indexes: sequence.slice(1, n + 1),
    packed_vit_tokens: patchify(image.data, image.height, image.width, patchSize),
    vit_token_seqlens: [n],
  };
  const rows: Row[] = [];
  for (const [name, list] of Object.entries(lists)) {
    rows.push(await fixture.compare(FILE, `vqa/prepare_vit_images/${name}`, list));
  }
  const { max_length } = settings.vqa;
  const pool = new CachePool(model.gpu, model.config.language, n + 2 + ids.length + max_length + 1);
  const context = pool.context();
  await runPass(model, special, [{ context, blocks: [{ kind: "vit", image }] }]);
  rows.push(
    ...await comparePrompt(fixture, "vqa/prepare_prompts", ids, context.length, context.rope),
  );
  await runPass(model, special, [{ context, blocks: [{ kind: "text", ids }] }]);
  const cache = "vqa/cache_after_prefill";
  rows.push(...await compareCache(fixture, FILE, cache, pool, context, model));
  rows.push(...await compareStart(fixture, "vqa", setup, context));
  rows.push(...(await compareWriting(setup, fixture, FILE, "vqa", context, max_length)).rows);
  pool.dispose();
  return rows;
}

/** Both prompts at once, of different lengths: each gets the answer it gets alone. */
async function checkBatch(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings, vitRule } = setup;
  const image = vitTransform(await fixtureImage(fixture, FILE, "vqa/image_u8"), vitRule);
  const [text, question] = [
    asText(special, await fixture.int(FILE, "text/prompt_ids")),
    asText(special, await fixture.int(FILE, "vqa/prompt_ids")),
  ];
  const most = Math.max(settings.text.max_length, settings.vqa.max_length);
  const pool = new CachePool(model.gpu, model.config.language, 512 + 2 * most);
  const contexts = [pool.context(), pool.context()];
  await runPass(model, special, [
    { context: contexts[0], blocks: [{ kind: "text", ids: text }] },
    { context: contexts[1], blocks: [{ kind: "vit", image }, { kind: "text", ids: question }] },
  ]);
  const written = await writeText(model, special, contexts, { maxTokens: most });
  pool.dispose();
  return ["text", "vqa"].map((name, i) => {
    const got = [special.bos, ...written[i].ids].slice(0, settings[name].max_length);
    return compareExact(`batch/${name}_generated_ids`, got, settings[name].generated);
  });
}
