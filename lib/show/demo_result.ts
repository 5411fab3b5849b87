// What the demo hands to its figure: a plain record of everything that is drawn or said in the caption. Worlds and
// parts that were not run are absent, arms that failed are missing; the figure says so.

import type { Estimate } from "./figure.ts";
import type { Picture } from "./png.ts";

/** Everything the demo's figure shows. Accuracies and differences are fractions, not percent. */
export interface DemoResult {
  /** Where transfer must happen; absent when the data are real images. */
  planted?: PlantedResult;
  /** Where the question is asked: the natural world, or real images. */
  natural?: NaturalResult;
  /** What each arm can draw, the common start included; the joint arm's decides. */
  gates: Gate[];
  /** Linear probes by depth, one entry per target. */
  probes: ProbeResult[];
  curves: TrainingCurve[];
  samples?: SampleResult;
  facts: DemoFacts;
  /** True while something is still running: DRAFT is written across. */
  draft?: boolean;
}

/** What the caption states about the run. */
export interface DemoFacts {
  seeds: readonly number[];
  /** Optimizer steps per arm. */
  steps: number;
  /** Held-out images per world. */
  items: number;
  /** Trainable parameters. */
  parameters: number;
  /** Adapter name, with "(software)" where it is. */
  adapter: string;
  /** Commit, or hash of the sources when the tree is not clean. */
  commit: string;
  /** How the arms start: "random weights" or the common initialization and where it came from. */
  init: string;
  /** What a reader must know before believing it: "too few steps for a verdict". */
  remark?: string;
  /** What the brackets are: "95 % bootstrap interval over items", "95 % t interval over seeds". */
  intervals: string;
}

/** Accuracy in the planted world. */
export interface PlantedResult {
  /** The question whose labels are withheld from understanding: "modality". */
  starved: string;
  chance: { starved: number; others: number };
  arms: { arm: string; starved: Estimate; others: Estimate }[];
  /** joint − und, paired by item. */
  difference: { starved: Estimate; others: Estimate };
}

/** Accuracy per question in the natural world. */
export interface NaturalResult {
  /** "natural world", or the name of the data folder. */
  name: string;
  questions: {
    name: string;
    chance: number;
    arms: { arm: string; accuracy: Estimate }[];
    /** joint − und, paired by item. */
    difference?: Estimate;
  }[];
}

/** Was generation learned? Only then does a difference say anything about it. */
export interface Gate {
  world: "planted" | "natural";
  arm: string;
  /** What is compared: "drawn modality matches the prompt". */
  measure: string;
  value: number;
  threshold: number;
  passed: boolean;
}

/** A linear probe on features, by depth. */
export interface ProbeResult {
  /** "modality (global)", "lesion place (dense)". */
  target: string;
  /** What is on the y axis: "balanced accuracy", "AUC". */
  metric: string;
  chance: number;
  /** Site names in order of depth: vit.out, connector.out, und.layers.0.out, … */
  sites: readonly string[];
  arms: { arm: string; values: Estimate[] }[];
}

/** Losses by step of one arm in one world; null where a loss was not computed. */
export interface TrainingCurve {
  world: string;
  arm: string;
  steps: number[];
  /** Cross-entropy, nats per answer token. */
  ce: (number | null)[];
  /** Rectified-flow mean squared error; empty for arms without it. */
  flow: (number | null)[];
}

/** Generated pictures under real ones: one column per prompt. */
export interface SampleResult {
  /** Short names of the columns. */
  prompts: string[];
  /** Real pictures first, then one row per arm. */
  rows: { label: string; pictures: (Picture | undefined)[] }[];
}

/** The verdict that goes with a world's difference: that of its joint arm. */
export function verdict(gates: readonly Gate[], world: Gate["world"]): string {
  const gate = gates.find((g) => g.world === world && g.arm === "joint");
  if (!gate) return "generation not measured";
  return gate.passed ? "generation learned" : "inconclusive: generation not learned";
}
