// A world as the demo trains and tests on it: packed samples for both objectives, held-out questions,
// held-out drawings with somebody to judge them.

import type { PackOptions } from "../../lib/data/pack.ts";
import type { Phantom, PhantomOptions } from "../../lib/data/phantoms/phantom.ts";
import { planesOf } from "../../lib/data/phantoms/phantom.ts";
import { Draws } from "../../lib/data/draws.ts";
import { decodeCode } from "../../lib/data/phantoms/codes.ts";
import { MODALITIES, PHANTOM_WORDS, QUESTIONS } from "../../lib/data/phantoms/factors.ts";
import { fitJudge, type Judge } from "../../lib/data/phantoms/judge.ts";
import {
  type GenerationItem,
  naturalWorld,
  plantedWorld,
  type UnderstandingItem,
  type World,
} from "../../lib/data/phantoms/worlds.ts";
import type { Sample } from "../../lib/data/sample.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import { latentStride, PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { questionSample, type VqaItem } from "../../lib/study/vqa.ts";
import { type DemoConfig, withVocabulary } from "./config.ts";

/** A held-out drawing: what is asked for, and whether a picture shows it. */
export interface DrawingTest {
  sample: Sample;
  /** Short name for figures. */
  prompt: string;
  /** The picture a perfect model might draw. */
  real: Pixels;
  /** Class that the prompt asks for, and the class a picture shows. */
  wanted: number;
  judge: (picture: Pixels) => number;
}

/** Labels for probes on the held-out images. */
export interface ProbeTargets {
  /** `groups` (patient, block) are never divided between fitting and scoring. */
  global: { name: string; classes: number; labels: Int32Array; groups?: Int32Array };
  dense?: { name: string; labels: Uint8Array };
}

/** What the demo needs to know of a world. */
export interface DemoWorld {
  /** Key in results; `planted`, `natural` or `data`. */
  key: "planted" | "natural" | "data";
  /** Name in tables and captions. */
  title: string;
  /** SHA-256 of the data, where they come from outside; phantoms follow from the settings. */
  digest?: string;
  model: UniMedVLConfig;
  tokenizer: WordTokenizer;
  pack: PackOptions;
  /** Timestep shift of the flow loss. */
  shift: number;
  questions: { name: string; chance: number }[];
  /** The question whose answers the generation branch draws, if the world was planted. */
  starved?: string;
  understanding: (step: number) => Sample[];
  generation: (step: number) => Sample[];
  /** One sample of each way to generate, to show where gradients go. */
  routes: { name: string; sample: Sample }[];
  tests: VqaItem[];
  drawing: DrawingTest[];
  gateMeasure: string;
  probeImages: Pixels[];
  probeTargets: ProbeTargets;
  /** Words read of an answer, its end included; without it, answers are one word. */
  maxWords?: number;
  /** What a reader of the results must know of the data: what was left out, what splits share. */
  notes?: string[];
}

/** Options of packing for a model and a vocabulary. */
export function packFor(model: UniMedVLConfig, tokenizer: WordTokenizer): PackOptions {
  return {
    special: tokenizer.special,
    vitPatch: model.vision.patchSize,
    latentPixels: latentStride(model),
    vitSide: model.vitMaxNumPatchPerSide,
    latentSide: model.maxLatentSize,
  };
}

/** (size, size, 3) as the (3, size, size) that packing takes. */
export function pixelsOf(image: Float32Array, size: number): Pixels {
  return { height: size, width: size, data: planesOf(image) };
}

/** Pixels back to (size, size, 3), for judges. */
export function interleaved({ data, height, width }: Pixels): Float32Array {
  const area = height * width;
  const out = new Float32Array(data.length);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) out[3 * i + c] = data[c * area + i];
  }
  return out;
}

/** The vocabulary of all phantom worlds. */
export function phantomTokenizer(): WordTokenizer {
  return new WordTokenizer(PHANTOM_WORDS);
}

/** Opens a phantom world. */
export function phantomWorld(key: "planted" | "natural", config: DemoConfig): DemoWorld {
  const tokenizer = phantomTokenizer();
  const model = withVocabulary(PRESETS.tiny, tokenizer.size);
  const phantoms: PhantomOptions = {
    size: model.vision.imageSize,
    lesionAmplitude: config.lesionAmplitude,
    disguise: config.disguise[key],
  };
  const { labelled, generated, starved } = config;
  const open = key === "planted" ? plantedWorld : naturalWorld;
  const world = open(config.seed, { labelled, generated, starved, phantoms });
  const task = key === "planted" ? "code" : "text";
  const starvedQuestion = key === "planted" ? "modality" : undefined;
  const held = Array.from({ length: config.tests }, (_, i) => world.test(i));
  return {
    key,
    title: `${key} world`,
    model,
    tokenizer,
    pack: packFor(model, tokenizer),
    shift: config.shift[key],
    questions: QUESTIONS.map(({ name, chance }) => ({ name, chance })),
    ...(starvedQuestion ? { starved: starvedQuestion } : {}),
    understanding: (step) =>
      world.understanding(step, config.images)
        .map((item, i) => askSome(item, tokenizer, config, [step, i], starvedQuestion)),
    generation: (step) =>
      world.generation(step, config.drawings, { task }).map((item) => drawing(item, tokenizer)),
    routes: routeSamples(world, tokenizer, config),
    tests: held.map(({ phantom, questions }) => ({ image: imageOf(phantom), questions })),
    drawing: drawingTests(world, task, tokenizer, config, phantoms),
    gateMeasure: key === "planted"
      ? "drawn code matches the image"
      : "drawn modality matches the caption",
    probeImages: held.slice(0, config.probes).map(({ phantom }) => imageOf(phantom)),
    probeTargets: probeTargets(held.slice(0, config.probes), model.vision.patchSize),
  };
}

function imageOf({ image, size }: Phantom): Pixels {
  return pixelsOf(image, size);
}

/**
 * The image with a few of its labelled questions; which ones depends on seed, step and place alone. A
 * starved question that is labelled here is always asked: labels that scarce are not left out.
 */
function askSome(
  { phantom, questions }: UnderstandingItem,
  tokenizer: WordTokenizer,
  config: DemoConfig,
  at: [step: number, place: number],
  starved: string | undefined,
): Sample {
  const order = new Draws("asked", config.seed, ...at).order(questions.length);
  const first = questions.findIndex(({ name }) => name === starved);
  const picked = [...order].filter((i) => i !== first);
  if (first >= 0) picked.unshift(first);
  const asked = picked.slice(0, config.questions).map((i) => ({
    question: tokenizer.encode(questions[i].question),
    answer: tokenizer.encode(questions[i].answer),
  }));
  return questionSample(imageOf(phantom), asked);
}

/** Condition, text, and the image to draw. In the planted task, drawn tokens cannot see the image. */
function drawing(
  { task, phantom, source, target, text }: GenerationItem,
  tokenizer: WordTokenizer,
): Sample {
  const { size } = phantom;
  const ids = tokenizer.encode(text);
  const goal = { type: "vae_image", loss: true, image: pixelsOf(target, size) } as const;
  const words = { type: "text", loss: false, ids } as const;
  if (!source) return { plan: [words, goal] };
  const image = pixelsOf(source, size);
  if (task === "code") {
    return { plan: [{ type: "vit_image", loss: false, image, hidden: true }, words, goal] };
  }
  return {
    plan: [
      { type: "vae_image", loss: false, image },
      { type: "vit_image", loss: false, image },
      words,
      goal,
    ],
  };
}

function routeSamples(
  world: World,
  tokenizer: WordTokenizer,
  config: DemoConfig,
): DemoWorld["routes"] {
  const natural = world.name === "natural"
    ? world
    : naturalWorld(config.seed, { labelled: 2, generated: 2 });
  const first = (task: "text" | "denoise") =>
    drawing(natural.generation(0, 1, { task })[0], tokenizer);
  return [
    { name: "text → image", sample: first("text") },
    { name: "image → image", sample: first("denoise") },
  ];
}

function drawingTests(
  world: World,
  task: "code" | "text",
  tokenizer: WordTokenizer,
  config: DemoConfig,
  phantoms: PhantomOptions,
): DrawingTest[] {
  let judge: Judge | undefined; // fitted when the first picture is judged: it takes most of a second
  return Array.from({ length: config.gate.pictures }, (_, i) => {
    const item = world.testGeneration(i, task);
    return {
      sample: drawing(item, tokenizer),
      prompt: item.phantom.factors.modality,
      real: pixelsOf(item.target, item.phantom.size),
      wanted: MODALITIES.indexOf(item.phantom.factors.modality),
      judge: (picture: Pixels) => {
        const pixels = interleaved(picture);
        if (task === "text") judge ??= fitJudge({ seed: config.seed, phantoms });
        const said = judge ? judge.modality(pixels).label : decodeCode(pixels).modality;
        return MODALITIES.indexOf(said);
      },
    };
  });
}

/** Global: the organ's shape. Dense: does this patch hold a part of a lesion? */
function probeTargets(held: UnderstandingItem[], patch: number): ProbeTargets {
  const shapes = QUESTIONS.find(({ name }) => name === "shape")!.answers;
  const labels = Int32Array.from(held, ({ phantom }) => shapes.indexOf(phantom.factors.shape));
  const dense = held.flatMap(({ phantom }) => patchesWith(phantom, patch));
  return {
    global: { name: "organ shape", classes: shapes.length, labels },
    dense: { name: "lesion place", labels: Uint8Array.from(dense) },
  };
}

const LESION_PIXELS = 3; // fewer are the rim of a lesion in the next patch

function patchesWith({ lesionMask, size }: Phantom, patch: number): number[] {
  const side = size / patch;
  const counts = new Array<number>(side * side).fill(0);
  lesionMask.forEach((on, i) => {
    const row = Math.floor(i / size / patch), column = Math.floor((i % size) / patch);
    counts[row * side + column] += on;
  });
  return counts.map((n) => n >= LESION_PIXELS ? 1 : 0);
}
