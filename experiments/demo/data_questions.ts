// What is asked about real images, which of it a small model can be asked, and how far one gets without
// looking. Whatever is left out is counted.

import type { Dataset, DatasetRecord, Question } from "../../lib/data/dataset.ts";
import { splitWords, WordTokenizer } from "../../lib/data/words.ts";

/** Longest answer kept, in words and punctuation marks. */
export const MAX_ANSWER_WORDS = 6;

/** Most entries of the vocabulary: its two tables are most of a small model's weights. */
export const MAX_VOCABULARY = 1024;

/** Text of the denoising task, which the vocabulary must hold. */
export const DENOISE_TEXT = "remove noise";

/** A question in the form the study takes: `name` is its kind. */
export interface DataQuestion {
  name: string;
  question: string;
  answer: string;
}

/** An image of the data set with all that may be asked or said about it. */
export interface DataItem {
  record: DatasetRecord;
  questions: DataQuestion[];
  /** Texts to draw the image from, at least one. */
  captions: string[];
}

/** The data set as questions. */
export interface AskedData {
  tokenizer: WordTokenizer;
  /** Split "train", and the other splits. */
  train: DataItem[];
  test: DataItem[];
  /** Words in the longest answer kept. */
  longest: number;
  /** What was left out, in words. */
  notes: string[];
}

/**
 * Questions, captions and vocabulary.
 *
 * - medpack: `modality ?`, and `label ?` where the training images of a modality have two labels or
 *   more; questions of the manifest as they are. Caption: modality and label.
 * - VQA-RAD: its own questions. Captions: the organ with one question and its answer.
 *
 * Left out are answers of more than {@linkcode MAX_ANSWER_WORDS} words and answers with a word that the
 * vocabulary, made of training texts alone, lacks: no such answer can be given.
 */
export function askData(dataset: Dataset): AskedData {
  const { records } = dataset;
  const several = modalitiesWithLabels(records);
  const short = new LeftOut();
  const all = records.map((record): DataItem => {
    const asked = record.questions
      .filter(({ kind }) =>
        kind !== "label" || dataset.kind !== "medpack" || several.has(record.modality!)
      )
      .map((question) => ({ ...question, question: wording(dataset, question) }));
    const questions = asked
      .map(({ kind: name, question, answer }) => ({ name, question, answer }))
      .filter(({ answer }) => short.keep(record, splitWords(answer).length <= MAX_ANSWER_WORDS));
    return { record, questions, captions: captionsOf(dataset, record, questions) };
  });
  const tokenizer = vocabulary(all.filter(({ record }) => record.split === "train"));
  const known = new LeftOut();
  const items = all.map((item) => ({
    ...item,
    questions: item.questions.filter(({ answer }) =>
      known.keep(item.record, !tokenizer.encode(answer).includes(tokenizer.special.unk))
    ),
  }));
  const train = items.filter(({ record }) => record.split === "train");
  const test = items.filter(({ record }) => record.split !== "train");
  const answers = items.flatMap(({ questions }) => questions.map(({ answer }) => answer));
  return {
    tokenizer,
    train,
    test,
    longest: answers.reduce((n, answer) => Math.max(n, splitWords(answer).length), 0),
    notes: [
      ...short.note(`answers have more than ${MAX_ANSWER_WORDS} words`),
      ...known.note("answers have words that no training text has"),
      ...unknownNote(tokenizer, test),
    ],
  };
}

/** Accuracy, by kind, of always giving the most frequent training answer of that kind to the test questions. */
export function chances(
  train: readonly DataQuestion[],
  test: readonly DataQuestion[],
): { name: string; chance: number }[] {
  return [...new Set(test.map(({ name }) => name))].map((name) => {
    const counts = new Map<string, number>();
    for (const question of train) {
      if (question.name !== name) continue;
      counts.set(question.answer, (counts.get(question.answer) ?? 0) + 1);
    }
    const [frequent] = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))[0] ?? [];
    const asked = test.filter((question) => question.name === name);
    return {
      name,
      chance: asked.filter(({ answer }) => answer === frequent).length / asked.length,
    };
  });
}

/** Modalities whose training images have two labels or more: elsewhere the label says nothing new. */
function modalitiesWithLabels(records: readonly DatasetRecord[]): Set<string> {
  const labels = new Map<string, Set<string>>();
  for (const { split, modality, questions } of records) {
    const answer = questions.find(({ kind }) => kind === "label")?.answer;
    if (split !== "train" || modality === undefined || answer === undefined) continue;
    labels.set(modality, (labels.get(modality) ?? new Set()).add(answer));
  }
  return new Set([...labels].filter(([, { size }]) => size >= 2).map(([modality]) => modality));
}

/** Two words for the questions that the reader makes: long ones cost a small model many steps. */
function wording({ kind }: Dataset, question: Question): string {
  const made = kind === "medpack" && ["modality", "label"].includes(question.kind);
  return made ? `${question.kind} ?` : question.question;
}

function captionsOf(
  { kind }: Dataset,
  record: DatasetRecord,
  questions: readonly DataQuestion[],
): string[] {
  if (kind === "vqa-rad") {
    const organ = record.label ?? "";
    const said = questions.map(({ question, answer }) => `${organ} ${question} ${answer}`.trim());
    return said.length > 0 ? said : [organ];
  }
  const parts = record.questions.filter(({ kind }) => kind === "modality" || kind === "label");
  return [parts.map(({ answer }) => answer).join(" ")];
}

/** Words of answers first, so that a question never costs an answer its place. */
function vocabulary(train: readonly DataItem[]): WordTokenizer {
  const answers = train.flatMap(({ questions }) => questions.map(({ answer }) => answer));
  const others = train.flatMap(({ questions, captions }) => [
    ...questions.map(({ question }) => question),
    ...captions,
  ]);
  const words = [[DENOISE_TEXT], answers, others].flatMap((texts) => {
    return WordTokenizer.fromTexts(texts).words;
  });
  const specials = new WordTokenizer([]).size;
  return new WordTokenizer([...new Set(words)].slice(0, MAX_VOCABULARY - specials));
}

function unknownNote(tokenizer: WordTokenizer, test: readonly DataItem[]): string[] {
  const questions = test.flatMap((item) => item.questions.map(({ question }) => question));
  const { words, unknown } = tokenizer.countUnknown(questions);
  const count = [...unknown.values()].reduce((sum, n) => sum + n, 0);
  return count === 0 ? [] : [
    `${count} of ${words} words in test questions are outside the vocabulary of ${tokenizer.size}`,
  ];
}

/** Counts questions by what becomes of them. */
class LeftOut {
  readonly #counts = { train: { all: 0, out: 0 }, test: { all: 0, out: 0 } };

  keep({ split }: DatasetRecord, kept: boolean): boolean {
    const count = this.#counts[split === "train" ? "train" : "test"];
    count.all++;
    if (!kept) count.out++;
    return kept;
  }

  note(reason: string): string[] {
    const { train, test } = this.#counts;
    if (train.out + test.out === 0) return [];
    return [
      `left out ${train.out} of ${train.all} training and ${test.out} of ${test.all} test questions: ` +
      reason,
    ];
  }
}
