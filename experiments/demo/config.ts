// Every number of the demo in one record: what a run resolves, prints and leaves beside its results.

import type { UniMedVLConfig } from "../../lib/model/config.ts";

/** Settings of the demo. */
export interface DemoConfig {
  /** Seed of data, sample order, timesteps and noise. */
  seed: number;
  /** Optimizer steps of every arm. */
  steps: number;
  /** Images of an understanding batch. */
  images: number;
  /** Questions asked of each of them, drawn anew each time. */
  questions: number;
  /** Images of a generation batch. */
  drawings: number;
  /** Largest learning rate; linear warm-up, then linear decay to a tenth of it. */
  learningRate: number;
  /** Steps of warm-up, at most a quarter of all. */
  warmup: number;
  /** Largest gradient norm, of each objective on its own. */
  maxNorm: number;
  /** Images with labels for understanding; generation has `generated` others. */
  labelled: number;
  generated: number;
  /** Labelled images of the starved question in the planted world. */
  starved: number;
  /** How far lesions stand out, 0…1. */
  lesionAmplitude: number;
  /** How much brightness, colour cast and lighting vary between cases, 0…1, by world. */
  disguise: { planted: number; natural: number };
  /** Timestep shift of the flow loss, by world. */
  shift: { planted: number; natural: number; data: number };
  /** Held-out images that are asked about, in each world. */
  tests: number;
  /** Held-out images that probes are fitted and scored on. */
  probes: number;
  /** Pictures drawn for the gate, and grid points of the sampler. */
  gate: { pictures: number; points: number; threshold: number };
}

/** The default: minutes on two cores. */
export const DEFAULTS: DemoConfig = {
  seed: 0,
  steps: 240,
  images: 16,
  questions: 4,
  drawings: 12,
  learningRate: 1e-3,
  warmup: 40,
  maxNorm: 1,
  labelled: 400,
  generated: 4000,
  starved: 12,
  lesionAmplitude: 0.8,
  disguise: { planted: 0.5, natural: 0 },
  shift: { planted: 60, natural: 4, data: 4 },
  tests: 1500,
  probes: 600,
  gate: { pictures: 64, points: 20, threshold: 0.5 },
};

/** `--quick`: the same path in little. Too short for a verdict, which its results say. */
export const QUICK_CHANGES = {
  steps: 40,
  warmup: 8,
  tests: 200,
  probes: 160,
  gate: { pictures: 32, points: 12 },
};

/** One arm of a world. */
export interface Arm {
  name: "untrained" | "und" | "joint" | "blocked";
  trained: boolean;
  generates: boolean;
  /** Every route from the flow loss into the und expert is cut. */
  blocked: boolean;
}

/** All arms by name. */
export const ARMS: Record<Arm["name"], Arm> = {
  untrained: { name: "untrained", trained: false, generates: false, blocked: false },
  und: { name: "und", trained: true, generates: false, blocked: false },
  joint: { name: "joint", trained: true, generates: true, blocked: false },
  blocked: { name: "blocked", trained: true, generates: true, blocked: true },
};

/** The `tiny` preset with a token table of the size a vocabulary needs. */
export function withVocabulary(preset: UniMedVLConfig, words: number): UniMedVLConfig {
  const vocabSize = Math.ceil(words / 8) * 8;
  return { ...preset, language: { ...preset.language, vocabSize } };
}
