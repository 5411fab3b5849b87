// Writing text: one token after another, for several contexts at once.

import { noGrad } from "../autograd.ts";
import type { SpecialIds } from "../data/tokenizer.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { linear } from "../ops/linear.ts";
import { tidy } from "../tensor.ts";
import type { Context } from "./cache.ts";
import { runPass } from "./pass.ts";
import { checkSampling, chooseToken, type SamplingOptions } from "./sampling.ts";

/** How text is written. */
export interface TextOptions extends SamplingOptions {
  /** Tokens at most, the end not counted. Default: 512. */
  maxTokens?: number;
  /** Ids below this may be said: rows of the token table behind the vocabulary may not. Default: all. */
  vocabulary?: number;
  /**
   * Leaves in each context what a reading of `BOS ids EOS` would, so that a conversation can go on; otherwise
   * its last tokens are missing. Default: false.
   */
  goOn?: boolean;
  signal?: AbortSignal;
  /** Called with each token as it comes, by number of its context. */
  onToken?: (id: number, sequence: number) => void;
  /** Called with the logits of each step, a row per context still writing; for checks. */
  onLogits?: (logits: Float32Array, sequence: number) => void;
}

/** What was written into one context. */
export interface Written {
  /** The tokens, neither start nor end among them. */
  ids: number[];
  /** Natural logarithm of each token's probability under the model (temperature 1, nothing cut). */
  logprobs: number[];
  /** True if the model ended its text, false if it came to `maxTokens`. */
  ended: boolean;
}

/**
 * Writes text behind each context (reference: `generate_text`): a start token is read, then each token that is
 * chosen, until the end token. Every sequence stops on its own.
 *
 * @throws {UsageError} If a sampling option makes no sense
 * @throws {ResourceError} If a cache is full
 */
export async function writeText(
  model: UniMedVL,
  special: SpecialIds,
  contexts: readonly Context[],
  options: TextOptions = {},
): Promise<Written[]> {
  checkSampling(options);
  const { maxTokens = 512, signal } = options;
  const { vocabSize } = model.config.language;
  const vocabulary = Math.min(options.vocabulary ?? vocabSize, vocabSize);
  const written: Written[] = contexts.map(() => ({ ids: [], logprobs: [], ended: false }));
  let open = contexts.map((_, i) => i);
  const last = contexts.map(() => special.bos); // what each context reads next
  for (let step = 0; step < maxTokens && open.length > 0; step++) {
    signal?.throwIfAborted();
    const readings = open.map((i) => ({
      context: contexts[i],
      blocks: [{ kind: "text" as const, ids: [last[i]] }],
    }));
    const rows = await readLogits(model, special, readings, signal);
    open = open.filter((i, row) => {
      const logits = rows.subarray(row * vocabSize, (row + 1) * vocabSize);
      options.onLogits?.(logits, i);
      const id = chooseToken(logits, vocabulary, options, step, i);
      if (id === special.eos) {
        written[i].ended = true;
        last[i] = special.eos;
        return false;
      }
      written[i].ids.push(id);
      written[i].logprobs.push(logProbability(logits, id));
      last[i] = id;
      options.onToken?.(id, i);
      return true;
    });
  }
  if (options.goOn) await closeTexts(model, special, contexts, written, last, signal);
  return written;
}

/** Reads what is missing for each context to hold `BOS ids EOS`. */
async function closeTexts(
  model: UniMedVL,
  special: SpecialIds,
  contexts: readonly Context[],
  written: readonly Written[],
  last: readonly number[],
  signal?: AbortSignal,
): Promise<void> {
  const readings = contexts.map((context, i) => ({
    context,
    blocks: [{
      kind: "text" as const,
      ids: written[i].ended ? [special.eos] : [last[i], special.eos],
    }],
  }));
  await runPass(model, special, readings, signal ? { signal } : {});
}

async function readLogits(
  model: UniMedVL,
  special: SpecialIds,
  readings: Parameters<typeof runPass>[2],
  signal?: AbortSignal,
): Promise<Float32Array> {
  const hidden = await runPass(model, special, readings, {
    wanted: ["und"],
    ...(signal ? { signal } : {}),
  });
  const head = model.parameters.get("text.head.weight");
  const logits = tidy(() => noGrad(() => linear(hidden.und!, head)));
  hidden.und!.dispose();
  const values = await logits.floats();
  logits.dispose();
  return values;
}

/** `logits[id] − log Σ exp(logits)`. */
function logProbability(logits: Float32Array, id: number): number {
  let most = -Infinity;
  for (const v of logits) if (v > most) most = v;
  let total = 0;
  for (const v of logits) total += Math.exp(v - most);
  return logits[id] - most - Math.log(total);
}
