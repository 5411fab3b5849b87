// Visual question answering: all questions about an image share its tokens as branches of one sample, and
// answers are read greedily. Protocol: the first word the model would say, over its whole vocabulary; an
// answer of several words counts only if every word and the end are right.

import { noGrad } from "../autograd.ts";
import { packBatch, type PackOptions } from "../data/pack.ts";
import type { PlanItem, Sample } from "../data/sample.ts";
import type { Pixels } from "../data/transforms.ts";
import type { WordTokenizer } from "../data/words.ts";
import { prepareBatch } from "../model/batch.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { tidy } from "../tensor.ts";

/** One image and what is asked about it. */
export interface VqaItem {
  image: Pixels;
  questions: readonly { name: string; question: string; answer: string }[];
}

/** What a model answered. */
export interface VqaAnswer {
  /** Position of the image in the list. */
  item: number;
  /** Kind of question. */
  name: string;
  question: string;
  target: string;
  answer: string;
  correct: boolean;
}

/** Options of {@link answerAll}. */
export interface VqaOptions {
  /** Images per forward pass. Default: 48. */
  batch?: number;
  /** Words read at most; with 1, the end of the answer is not asked for. Default: 1. */
  maxWords?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Plan of an image with its questions as branches; `answers` are ids, with or without a loss. */
export function questionSample(
  image: Pixels,
  questions: readonly { question: readonly number[]; answer: readonly number[] }[],
): Sample {
  const plan: PlanItem[] = [{ type: "vit_image", loss: false, image }];
  questions.forEach(({ question, answer }, i) => {
    plan.push({ type: "text", loss: false, ids: question, branch: i + 1 });
    plan.push({ type: "text", loss: true, ids: answer, branch: i + 1 });
  });
  return { plan };
}

/** Asks every question of every item; answers in order. */
export async function answerAll(
  model: UniMedVL,
  tokenizer: WordTokenizer,
  items: readonly VqaItem[],
  pack: PackOptions,
  options: VqaOptions = {},
): Promise<VqaAnswer[]> {
  const { batch = 48, maxWords = 1 } = options;
  const answers: VqaAnswer[] = [];
  for (let start = 0; start < items.length; start += batch) {
    options.signal?.throwIfAborted();
    const part = items.slice(start, start + batch).map((item, i) => ({ ...item, at: start + i }))
      .filter(({ questions }) => questions.length > 0);
    if (part.length > 0) {
      const said = await greedy(model, tokenizer, part, pack, maxWords);
      answers.push(...said.map((a) => ({ ...a, item: part[a.item].at })));
    }
    options.onProgress?.(Math.min(start + batch, items.length), items.length);
  }
  return answers;
}

async function greedy(
  model: UniMedVL,
  tokenizer: WordTokenizer,
  items: readonly VqaItem[],
  pack: PackOptions,
  maxWords: number,
): Promise<VqaAnswer[]> {
  const open = items.map(({ questions }) =>
    questions.map(({ question }) => ({
      question: tokenizer.encode(question),
      answer: [] as number[],
      ended: false,
    }))
  );
  for (let word = 0; word < maxWords && open.flat().some(({ ended }) => !ended); word++) {
    const samples = items.map(({ image }, i) => questionSample(image, open[i]));
    const lengths = open.flat().map(({ answer }) => answer.length);
    const next = await predictLast(model, samples, pack, lengths, tokenizer.size);
    open.flat().forEach((q, i) => {
      if (q.ended) return;
      if (next[i] === tokenizer.special.eos) q.ended = true;
      else q.answer.push(next[i]);
    });
  }
  return items.flatMap(({ questions }, item) =>
    questions.map(({ name, question, answer: target }, j) => {
      const { answer, ended } = open[item][j];
      const wanted = tokenizer.encode(target);
      const whole = maxWords === 1 || ended;
      const correct = whole && wanted.join() === answer.join();
      return { item, name, question, target, answer: tokenizer.decode(answer), correct };
    })
  );
}

/**
 * The most likely token after each answer so far; `lengths` are those of the answers, in order. Rows of the
 * token table beyond the `words` of the vocabulary are padding and cannot be said.
 */
async function predictLast(
  model: UniMedVL,
  samples: Sample[],
  pack: PackOptions,
  lengths: number[],
  words: number,
): Promise<number[]> {
  const packed = packBatch(samples, pack);
  const logits = tidy(() =>
    noGrad(() => model.forward(prepareBatch(model.gpu, model.config, { packed })).logits!)
  );
  const values = await logits.floats();
  const vocabulary = logits.dim(1);
  logits.dispose();
  let row = -1;
  return lengths.map((length) => {
    row += length + 1; // an answer of n ids predicts at n + 1 places; the last is wanted
    let best = 0;
    for (let id = 1; id < words; id++) {
      if (values[row * vocabulary + id] > values[row * vocabulary + best]) best = id;
    }
    return best;
  });
}
