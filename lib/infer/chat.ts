// A conversation: turns of images and text, each answered with all earlier turns in the context.

import type { Image } from "../data/resize.ts";
import { InputError } from "../errors.ts";
import type { Answer } from "./ask.ts";
import type { Context } from "./cache.ts";
import type { OpenModel } from "./open_model.ts";
import {
  needParts,
  ruleFor,
  Session,
  textBlock,
  tokensOf,
  vitBlock,
  type WritingOptions,
} from "./session.ts";

/** How a conversation goes. */
export interface ChatOptions extends WritingOptions {
  /** Tokens of each answer at most. Default: 512. */
  maxTokens?: number;
  /** Tokens the whole conversation may take; its cache is allocated at once. Default: 4096. */
  context?: number;
}

/** A conversation in progress; {@link Chat.dispose} it when done. */
export class Chat {
  readonly #session: Session;
  #context: Context;
  readonly #limit: number;
  #turns = 0;

  constructor(readonly open: OpenModel, readonly options: ChatOptions = {}) {
    this.#limit = options.context ?? 4096;
    this.#session = new Session(open, this.#limit, { ...options, context: this.#limit });
    this.#context = this.#session.context();
  }

  /** Tokens of the conversation so far. */
  get tokens(): number {
    return this.#context.length;
  }

  /**
   * Says something and waits for the answer.
   *
   * @param images shown before the text, any number
   * @throws {InputError} If the turn and its answer do not fit what is left of the context; nothing is read then
   */
  async say(
    text: string,
    images: readonly Image[] = [],
    options: ChatOptions = {},
  ): Promise<Answer> {
    const { maxTokens = 512, ...writing } = { ...this.options, ...options };
    const rule = ruleFor(this.open.config, writing.imageRule ?? "trainVit");
    const blocks = [
      ...images.map((image) => vitBlock(image, rule, images.length)),
      textBlock(this.open, text, writing.specialTokens),
    ];
    const wanted = tokensOf(this.open, blocks);
    const left = this.#limit - this.#context.length;
    if (wanted + maxTokens + 2 > left) {
      throw new InputError(
        `Cannot go on: this turn takes ${wanted} tokens and its answer up to ${maxTokens}, ` +
          `${left} of ${this.#limit} are left`,
        { help: "start anew, shorten the turn, lower --max-tokens, or raise --context" },
      );
    }
    await needParts(
      this.open,
      ["head", "und", ...(images.length > 0 ? ["vit" as const] : [])],
      writing,
      wanted,
    );
    const before = this.#context.fork();
    try {
      await this.#session.read([{ context: this.#context, blocks }], writing);
      const seed = (writing.seed ?? 0) + this.#turns; // the same words may get another answer
      const [written] = await this.#session.write([this.#context], {
        ...writing,
        seed,
        maxTokens,
        goOn: true,
      });
      before.dispose();
      this.#turns++;
      const { text: answer, ids, logprobs, ended } = written;
      return { text: answer.trim(), tokens: ids, logprobs, ended, promptTokens: wanted };
    } catch (error) {
      this.#context.dispose(); // a turn that was not finished did not happen
      this.#context = before;
      throw error;
    }
  }

  dispose(): void {
    this.#session.dispose();
  }
}
