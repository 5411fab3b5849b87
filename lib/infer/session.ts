// What every verb does: read texts and images into contexts of one cache, with progress, and write text behind
// them. Sizes are known before anything runs, so a prompt that is too long is refused at once.

import type { Image } from "../data/resize.ts";
import { normalize, resizeByRule, SIZE_RULES, type SizeRule } from "../data/transforms.ts";
import { WordTokenizer } from "../data/words.ts";
import { InputError, ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import { latentStride, type UniMedVLConfig } from "../model/config.ts";
import { PAGE } from "../ops/cached_attention.ts";
import { cacheBytesPerToken, CachePool, type Context } from "./cache.ts";
import type { LoadWork, OpenModel, Part } from "./open_model.ts";
import { type Block, blockTokens, runPass } from "./pass.ts";
import { PORTION, portionsOf } from "./portions.ts";
import type { SamplingOptions } from "./sampling.ts";
import { writeText, type Written } from "./text.ts";

/** What is going on; `done` of `total` in the stage's own unit. */
export interface VerbProgress {
  stage: "load" | "read" | "write" | "draw" | "decode";
  done: number;
  total: number;
}

/** What every verb takes. */
export interface VerbOptions {
  signal?: AbortSignal;
  onProgress?: (progress: VerbProgress) => void;
  /** What a user should know: values the files overruled, streaming and its cost. */
  onNote?: (text: string) => void;
  /** Tokens that prompt, images and answer may take together. Default: 32768, as the model was trained. */
  context?: number;
  /** Special tokens in the user's text count as such. Default: false, they are plain text. */
  specialTokens?: boolean;
}

/** What every verb that writes takes. */
export interface WritingOptions extends VerbOptions, SamplingOptions {
  /** Tokens of the answer at most. */
  maxTokens?: number;
  /** The text as it comes, whole characters at a time. */
  onText?: (piece: string) => void;
  /**
   * Size rule of images for the ViT, a name of `SIZE_RULES`: they are enlarged to the rule's shortest edge, and
   * every 14 × 14 pixels are a token. Default: trainVit, as in the reference's chat, 378 to 980 pixels.
   */
  imageRule?: keyof typeof SIZE_RULES;
}

/** Slots for pages that are begun and not filled. */
const SPARE = 4 * PAGE;

/** Tokens the published model was trained for. */
export const DEFAULT_CONTEXT = 32768;

/** The sizes a model's encoders take by a rule of the reference; small models have small tables. */
export function ruleFor(config: UniMedVLConfig, kind: keyof typeof SIZE_RULES): SizeRule {
  const rule = SIZE_RULES[kind];
  const vit = /vit$/i.test(kind);
  const stride = vit ? config.vision.patchSize : latentStride(config);
  const most = stride * (vit ? config.vitMaxNumPatchPerSide : config.maxLatentSize);
  const max = Math.min(rule.max, most);
  return { max, min: Math.min(rule.min, max), stride, maxPixels: rule.maxPixels };
}

/** A text as it is packed: start, ids, end. */
export function textBlock(open: OpenModel, text: string, special = false): Block {
  const { bos, eos } = open.special;
  return { kind: "text", ids: [bos, ...open.tokenizer.encode(text, { special }), eos] };
}

/** Says which words of a text a small model's vocabulary lacks: they all read the same to it. */
export function noteUnknown(open: OpenModel, texts: readonly string[], options: VerbOptions): void {
  if (!(open.tokenizer instanceof WordTokenizer)) return;
  const unknown = [...open.tokenizer.countUnknown(texts).unknown.keys()];
  if (unknown.length === 0) return;
  options.onNote?.(`words that this model does not know: ${unknown.slice(0, 12).join(", ")}`);
}

/** An image for the ViT, by a size rule. */
export function vitBlock(image: Image, rule: SizeRule, imageCount = 1): Block {
  return { kind: "vit", image: normalize(resizeByRule(image, rule, imageCount)) };
}

/** One verb's cache and what it reads and writes. */
export class Session {
  readonly pool: CachePool;

  /**
   * @param tokens how many the longest sequence takes
   * @param capacity how many all of them take, shared ones counted once; default: one sequence
   * @throws {InputError} If a sequence is longer than the context
   */
  constructor(
    readonly open: OpenModel,
    tokens: number,
    readonly options: VerbOptions,
    capacity = tokens,
  ) {
    const context = options.context ?? DEFAULT_CONTEXT;
    if (tokens > context) {
      throw new InputError(
        `Cannot read the prompt: with images and answer it takes ${tokens} tokens, the context holds ${context}`,
        {
          help:
            "shorten the text, give fewer or smaller images, lower --max-tokens, or raise --context",
        },
      );
    }
    const all = capacity + SPARE;
    try {
      this.pool = new CachePool(open.gpu, open.config.language, all);
    } catch (cause) {
      if (!(cause instanceof ResourceError)) throw cause;
      const bytes = formatBytes(all * cacheBytesPerToken(open.config.language));
      throw new ResourceError(
        `Cannot keep ${all} tokens in mind: their cache takes ${bytes}, of the budget of ` +
          `${formatBytes(open.gpu.buffers.budgetBytes)} ${
            formatBytes(open.gpu.buffers.liveBytes)
          } is in use`,
        {
          cause,
          help: "lower --max-tokens or --size, give fewer or smaller images, or raise --budget",
        },
      );
    }
  }

  context(): Context {
    return this.pool.context();
  }

  /**
   * Reads blocks into contexts, each its own, together and in portions.
   *
   * @param options who watches and may stop it; default: the session's
   */
  async read(
    readings: { context: Context; blocks: readonly Block[] }[],
    options: VerbOptions = this.options,
  ): Promise<void> {
    const { signal, onProgress } = options;
    const portions = portionsOf(readings.map(({ blocks }) => blocks), this.open.config);
    for (const [i, portion] of portions.entries()) {
      const some = portion.flatMap((blocks, k) =>
        blocks.length > 0 ? [{ context: readings[k].context, blocks }] : []
      );
      await runPass(this.open.model, this.open.special, some, {
        ...(signal ? { signal } : {}),
        onLayer: (done, total) =>
          onProgress?.({ stage: "read", done: i * total + done, total: portions.length * total }),
      });
    }
  }

  /** Writes behind contexts and decodes; the pieces of the first go to `onText`. */
  async write(
    contexts: readonly Context[],
    options: WritingOptions & { maxTokens: number; goOn?: boolean },
  ): Promise<(Written & { text: string })[]> {
    const { tokenizer, special, model } = this.open;
    const stream = tokenizer.stream();
    const { signal, onProgress } = options;
    const counts = contexts.map(() => 0);
    const written = await writeText(model, special, contexts, {
      ...(options.temperature === undefined ? {} : { temperature: options.temperature }),
      ...(options.topK === undefined ? {} : { topK: options.topK }),
      ...(options.topP === undefined ? {} : { topP: options.topP }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
      maxTokens: options.maxTokens,
      vocabulary: tokenizer.size,
      goOn: options.goOn ?? false,
      ...(signal ? { signal } : {}),
      onToken: (id, sequence) => {
        counts[sequence]++;
        onProgress?.({ stage: "write", done: Math.max(...counts), total: options.maxTokens });
        if (sequence !== 0 || !options.onText) return;
        const piece = stream.push(id);
        if (piece) options.onText(piece);
      },
    });
    const rest = stream.end();
    if (rest) options.onText?.(rest);
    return written.map((w) => ({ ...w, text: tokenizer.decode(w.ids) }));
  }

  dispose(): void {
    this.pool.dispose();
  }
}

/** Tokens of some blocks. */
export function tokensOf(open: OpenModel, blocks: readonly Block[]): number {
  return blocks.reduce((n, block) => n + blockTokens(block, open.config), 0);
}

/** Device memory of a pass over so many tokens, about: activations and scores, caches and weights apart. */
export function passBytes({ language: l }: UniMedVLConfig, tokens: number): number {
  const scores = Math.min(2 ** 26, 4 * l.numAttentionHeads * tokens ** 2);
  return 2 ** 20 + 2 * scores + 5 * tokens * (12 * l.hiddenSize + 4 * l.intermediateSize);
}

/**
 * Loads the parts a verb needs, reporting to its options.
 *
 * @param tokens of the verb's largest pass, for the memory it will take
 */
export function needParts(
  open: OpenModel,
  parts: readonly Part[],
  options: VerbOptions,
  tokens: number,
): Promise<void> {
  const work: LoadWork = {
    workingBytes: passBytes(open.config, Math.min(tokens, 2 * PORTION)),
    ...(options.signal ? { signal: options.signal } : {}),
    ...(options.onNote ? { onNote: options.onNote } : {}),
    onProgress: (done, total) => options.onProgress?.({ stage: "load", done, total }),
  };
  return open.need(parts, work);
}
