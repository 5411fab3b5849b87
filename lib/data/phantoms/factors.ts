// What is true of a phantom and how it is put into words. A word is what stands between spaces;
// PHANTOM_WORDS is the whole language, so a word-level tokenizer needs nothing else.

import type { Draws } from "../draws.ts";

/** The renderers, by the names the real data uses, and the shapes of organs. */
export const MODALITIES = ["cfp", "cxr", "ct", "his", "mri", "oct", "us", "endo"] as const;
export const SHAPES = ["disc", "ellipse", "bean", "wedge"] as const;
/** Quarters of the image as seen on the screen, never the patient's sides. */
export const QUADRANTS = ["upper-left", "upper-right", "lower-left", "lower-right"] as const;
/** Sizes, tones and counts of lesions. */
export const SIZES = ["small", "large"] as const;
export const TONES = ["bright", "dark"] as const;
export const COUNTS = ["none", "one", "two", "three"] as const;

/** One of the lists above. */
export type Modality = typeof MODALITIES[number];
export type Shape = typeof SHAPES[number];
export type Quadrant = typeof QUADRANTS[number];

/** The lesions of a phantom; all lie in one quadrant and share size and tone. */
export interface LesionFactors {
  count: 1 | 2 | 3;
  quadrant: Quadrant;
  size: typeof SIZES[number];
  tone: typeof TONES[number];
}

/** The ground truth. */
export interface Factors {
  modality: Modality;
  shape: Shape;
  lesion: LesionFactors | null;
}

/** Share of phantoms with a lesion. */
export const LESION_RATE = 0.6;
/** Shares of one, two and three lesions among phantoms that have any. */
export const LESION_COUNT_RATES: readonly number[] = [0.75, 0.15, 0.1];

/** Samples the ground truth; every factor uniform but presence and count. */
export function drawFactors(
  draws: Draws,
  rate: number,
  countRates: readonly number[],
): Factors {
  const modality = draws.pick(MODALITIES);
  const shape = draws.pick(SHAPES);
  const present = draws.uniform() < rate;
  const count = draws.weighted(countRates) + 1 as 1 | 2 | 3;
  const quadrant = draws.pick(QUADRANTS);
  const size = draws.pick(SIZES);
  const tone = draws.pick(TONES);
  return { modality, shape, lesion: present ? { count, quadrant, size, tone } : null };
}

/** `ct bean bright large upper-left`, `us disc two dark small lower-left`, `mri wedge healthy`. */
export function captionOf({ modality, shape, lesion }: Factors): string {
  if (lesion === null) return `${modality} ${shape} healthy`;
  const count = lesion.count > 1 ? `${COUNTS[lesion.count]} ` : "";
  return `${modality} ${shape} ${count}${lesion.tone} ${lesion.size} ${lesion.quadrant}`;
}

/** One thing that can be asked. */
export interface Question {
  name: QuestionName;
  /** Two words. */
  question: string;
  /** One word each. */
  answers: readonly string[];
  /** Accuracy of always giving the most frequent answer, with the default rates. */
  chance: number;
}

/** What is asked about a phantom, by the factor it asks for. */
export type QuestionName = "modality" | "shape" | "lesion" | "where" | "size" | "tone" | "count";

/** One asked and answered question of a phantom. */
export interface Answered {
  name: QuestionName;
  question: string;
  answer: string;
}

/** Everything that can be asked, in the order `questionsOf` asks it. */
export const QUESTIONS: readonly Question[] = [
  { name: "modality", question: "modality ?", answers: MODALITIES, chance: 1 / 8 },
  { name: "shape", question: "shape ?", answers: SHAPES, chance: 1 / 4 },
  { name: "lesion", question: "lesion ?", answers: ["yes", "no"], chance: LESION_RATE },
  { name: "where", question: "where ?", answers: QUADRANTS, chance: 1 / 4 },
  { name: "size", question: "size ?", answers: SIZES, chance: 1 / 2 },
  { name: "tone", question: "tone ?", answers: TONES, chance: 1 / 2 },
  {
    name: "count",
    question: "count ?",
    answers: COUNTS,
    chance: Math.max(1 - LESION_RATE, ...LESION_COUNT_RATES.map((r) => r * LESION_RATE)),
  },
];

/** What can be asked of this phantom; without a lesion nobody asks where, how large or which tone. */
export function questionsOf({ modality, shape, lesion }: Factors): Answered[] {
  const answers: Record<QuestionName, string | undefined> = {
    modality,
    shape,
    lesion: lesion === null ? "no" : "yes",
    where: lesion?.quadrant,
    size: lesion?.size,
    tone: lesion?.tone,
    count: COUNTS[lesion?.count ?? 0],
  };
  return QUESTIONS.flatMap(({ name, question }) => {
    const answer = answers[name];
    return answer === undefined ? [] : [{ name, question, answer }];
  });
}

/** Instructions of the image-to-image tasks. */
export const INSTRUCTIONS = {
  organ: "draw organ",
  remove: "remove lesion",
  denoise: "remove noise",
  translate: "draw",
} as const;

/** Every word that occurs in a caption, question, answer or instruction; no word twice. */
export const PHANTOM_WORDS: readonly string[] = [
  ...new Set([
    "?",
    "healthy",
    ...QUESTIONS.flatMap(({ question, answers }) => [...question.split(" "), ...answers]),
    ...Object.values(INSTRUCTIONS).flatMap((text) => text.split(" ")),
  ]),
];
