// Texts and images in any order in, text or an image out (reference: `interleave_inference`), with the three
// contexts that guidance takes the difference of.

import { normalNoise } from "../data/noise.ts";
import type { Image } from "../data/resize.ts";
import { normalize, resizeByRule, type SizeRule, targetSize } from "../data/transforms.ts";
import { UsageError } from "../errors.ts";
import { latentStride } from "../model/config.ts";
import { PAGE } from "../ops/cached_attention.ts";
import type { Context } from "./cache.ts";
import type { DrawContexts } from "./denoise.ts";
import {
  type DrawingOptions,
  drawInto,
  type Drawn,
  NoiseSource,
  type Size,
  sizeOf,
} from "./draw.ts";
import { latentBlock, posteriorSize } from "./images.ts";
import type { OpenModel, Part } from "./open_model.ts";
import type { Block } from "./pass.ts";
import { splitThought, THINK_PROMPTS, type ThinkSet } from "./prompts.ts";
import {
  needParts,
  noteUnknown,
  ruleFor,
  Session,
  textBlock,
  tokensOf,
  type WritingOptions,
} from "./session.ts";

/** A text or an image, (h, w, 3) bytes. */
export type Input = string | Image;

/** Whose image sizes are used. */
export type ImageRules = "unimedvl" | "bagel";

/** How images are read as conditions. */
export interface ConditionOptions {
  /** Default: unimedvl. */
  rules?: ImageRules;
  /** Latents of condition images: a sample, as the reference takes, or the mean. Default: sample. */
  posterior?: "sample" | "mean";
}

/** How inputs become an output. */
export interface InterleaveOptions extends WritingOptions, DrawingOptions, ConditionOptions {
  /** Write text instead of drawing: images are read by the ViT only. Default: false. */
  understand?: boolean;
  /** Think first, with the system prompt of one of the two models. Default: false. */
  think?: ThinkSet | false;
  /** The context without images reads the thought too, as in BAGEL's evaluation. Default: false. */
  thinkInImageContext?: boolean;
  /** Default: that of the last image by the VAE's rule; without images 1024 or what the model's table holds. */
  size?: Size;
  /** Tokens of the answer or thought at most. Default: 1000. */
  maxTokens?: number;
}

/** What came out. */
export interface Interleaved {
  text?: string;
  thought?: string;
  drawn?: Drawn;
}

/** Size rules of both encoders for condition images. */
export function conditionRules(
  open: OpenModel,
  rules: ImageRules = "unimedvl",
): { vae: SizeRule; vit: SizeRule } {
  const { config } = open;
  return rules === "bagel"
    ? { vae: ruleFor(config, "bagelVae"), vit: ruleFor(config, "bagelVit") }
    : { vae: ruleFor(config, "unimedvlVae"), vit: ruleFor(config, "unimedvlVit") };
}

/** The size an image is drawn at by default. */
export function drawnSize(
  open: OpenModel,
  image: Image | undefined,
  rules?: ImageRules,
): { width: number; height: number } {
  if (image) return targetSize(image.width, image.height, conditionRules(open, rules).vae);
  const most = latentStride(open.config) * open.config.maxLatentSize;
  const side = Math.min(1024, most);
  return { width: side, height: side };
}

/** The three contexts as inputs come in. The one without images is the main one itself until they differ. */
export class Contexts {
  readonly main: Context;
  withoutText: Context;
  #withoutImages: Context | undefined;

  constructor(readonly session: Session) {
    this.main = session.context();
    this.withoutText = session.context();
  }

  /** A text that both the main context and the one without images read. */
  async text(block: Block, remember = true): Promise<void> {
    if (remember) this.rememberBeforeText();
    const contexts = this.#withoutImages ? [this.main, this.#withoutImages] : [this.main];
    await this.session.read(contexts.map((context) => ({ context, blocks: [block] })));
  }

  /** Blocks of an image, which only the main context reads. */
  async image(blocks: readonly Block[]): Promise<void> {
    this.part();
    await this.session.read([{ context: this.main, blocks }]);
    this.rememberBeforeText();
  }

  /** From here on the context without images goes its own way. */
  part(): void {
    this.#withoutImages ??= this.main.fork();
  }

  /** The main context as it is now becomes the one without the text to come. */
  rememberBeforeText(): void {
    this.withoutText.dispose();
    this.withoutText = this.main.fork();
  }

  /** The context without images; the main one where there are none. */
  get withoutImages(): Context {
    return this.#withoutImages ?? this.main;
  }

  /** As denoising takes them. */
  forDrawing(): DrawContexts {
    const { main, withoutText, withoutImages } = this;
    return { main, withoutText, withoutImages };
  }
}

/** Reads condition images: latents and ViT tokens of the VAE-sized image, or the ViT's alone. */
export class ConditionReader {
  readonly #rules: { vae: SizeRule; vit: SizeRule };
  #images = 0;

  constructor(
    readonly open: OpenModel,
    readonly options: ConditionOptions & { seed?: number; signal?: AbortSignal },
  ) {
    this.#rules = conditionRules(open, options.rules);
  }

  /** The image as the ViT takes it: resized by the VAE's rule first, as the reference does here. */
  vit(image: Image): Block {
    const resized = resizeByRule(image, this.#rules.vae);
    return { kind: "vit", image: normalize(resizeByRule(resized, this.#rules.vit)) };
  }

  /** The clean latents of the image. */
  latents(image: Image): Promise<Block> {
    const pixels = normalize(resizeByRule(image, this.#rules.vae));
    const { posterior = "sample", seed = 42, signal } = this.options;
    if (posterior !== "sample" && posterior !== "mean") {
      throw new UsageError(`Cannot encode images with posterior "${posterior}"`, {
        help: "there are sample and mean",
      });
    }
    const n = posteriorSize(this.open.model, pixels.height, pixels.width);
    const noise = posterior === "mean" ? null : normalNoise(n, "posterior", seed, this.#images++);
    return latentBlock(this.open.model, this.open.encoder, pixels, noise, signal ? { signal } : {});
  }

  /** Tokens an image will take, known without encoding it. */
  tokens(image: Image, withLatents: boolean): number {
    const vit = tokensOf(this.open, [this.vit(image)]);
    if (!withLatents) return vit;
    const { width, height } = targetSize(image.width, image.height, this.#rules.vae);
    const stride = latentStride(this.open.config);
    return vit + (width / stride) * (height / stride) + 2;
  }
}

/**
 * Reads inputs in order, then writes text (`understand`) or draws an image.
 *
 * @throws {UsageError} If there is no input, or an option makes no sense
 * @throws {InputError} If the inputs exceed the context
 */
export async function interleave(
  open: OpenModel,
  inputs: readonly Input[],
  options: InterleaveOptions = {},
): Promise<Interleaved> {
  const { understand = false, think = false, maxTokens = 1000, rules } = options;
  if (inputs.length === 0) {
    throw new UsageError("Cannot go on without input", { help: "give a text, an image, or both" });
  }
  const images = inputs.filter((input): input is Image => typeof input !== "string");
  const texts = inputs.filter((input): input is string => typeof input === "string");
  const reader = new ConditionReader(open, options);
  const size = options.size === undefined
    ? drawnSize(open, images.at(-1), rules)
    : sizeOf(open, options.size);
  const noise = new NoiseSource(options.seed ?? 42, options.noise ?? "torch");
  const prompt = think ? THINK_PROMPTS[think][understand ? "understand" : "draw"] : undefined;

  const textBlocks = texts.map((text) => textBlock(open, text, options.specialTokens));
  const textTokens = tokensOf(open, [...textBlocks, ...(prompt ? [textBlock(open, prompt)] : [])]);
  const imageTokens = images.reduce((n, image) => n + reader.tokens(image, !understand), 0);
  const written = understand || think ? maxTokens + 2 : 0;
  const stride = latentStride(open.config);
  const drawn = understand ? 0 : (size.width / stride) * (size.height / stride) + 2;
  const longest = textTokens + imageTokens + written + drawn;
  const session = new Session(
    open,
    longest,
    options,
    longest + textTokens + 2 * drawn + 3 * PAGE * (inputs.length + 2),
  );
  try {
    const parts: Part[] = ["und"];
    if (understand || think) parts.push("head");
    if (images.length > 0) parts.push("vit");
    if (!understand) {
      parts.push("gen", "latent", "decoder", ...(images.length > 0 ? ["encoder" as const] : []));
    }
    await needParts(open, parts, options, Math.max(textTokens + imageTokens, drawn));

    noteUnknown(open, texts, options);
    const contexts = new Contexts(session);
    if (prompt) await contexts.text(textBlock(open, prompt), false);
    let text = 0;
    for (const input of inputs) {
      if (typeof input === "string") await contexts.text(textBlocks[text++]);
      else {
        const blocks = [reader.vit(input)];
        if (!understand) blocks.unshift(await reader.latents(input));
        await contexts.image(blocks);
      }
    }
    if (understand) {
      const [answer] = await session.write([contexts.main], { ...options, maxTokens });
      return think ? named(splitThought(answer.text)) : { text: answer.text.trim() };
    }
    let thought: string | undefined;
    if (think) {
      contexts.part();
      const writers = options.thinkInImageContext
        ? [contexts.main, contexts.withoutImages]
        : [contexts.main];
      thought = await writeThought(open, session, writers, { ...options, maxTokens });
    }
    const [image] = await drawInto(
      open,
      [{ contexts: contexts.forDrawing(), ...size }],
      noise,
      options,
    );
    return { ...(thought === undefined ? {} : { thought }), drawn: image };
  } finally {
    session.dispose();
  }
}

function named({ thought, answer }: { thought?: string; answer: string }): Interleaved {
  return { text: answer, ...(thought === undefined ? {} : { thought }) };
}

/** The main context thinks and keeps the thought; others read it. */
async function writeThought(
  open: OpenModel,
  session: Session,
  [main, ...others]: readonly Context[],
  options: WritingOptions & { maxTokens: number },
): Promise<string> {
  const [{ ids, text }] = await session.write([main], { ...options, goOn: true });
  const { bos, eos } = open.special;
  const block: Block = { kind: "text", ids: [bos, ...ids, eos] };
  if (others.length > 0) {
    await session.read(others.map((context) => ({ context, blocks: [block] })));
  }
  return text;
}
