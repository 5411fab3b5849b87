// From measured arms to the plain record that the table and the figure are made of: accuracies with
// intervals, paired differences, verdicts.

import { denormalize, type Pixels } from "../../lib/data/transforms.ts";
import type {
  DemoFacts,
  DemoResult,
  Gate,
  NaturalResult,
  PlantedResult,
  ProbeResult,
  SampleResult,
  TrainingCurve,
} from "../../lib/show/demo_result.ts";
import type { Estimate } from "../../lib/show/figure.ts";
import type { Picture } from "../../lib/show/png.ts";
import { gate as judgeGate } from "../../lib/study/gate.ts";
import { accuracyInterval, mean, pairedBootstrap } from "../../lib/study/statistics.ts";
import type { VqaAnswer } from "../../lib/study/vqa.ts";
import type { ArmResult, ProbePoint } from "./arm.ts";
import type { DemoConfig } from "./config.ts";
import type { DemoWorld } from "./world.ts";

/** A world and its arms, in the order they ran. */
export interface WorldResult {
  world: DemoWorld;
  arms: ArmResult[];
}

type Wanted = (answer: VqaAnswer) => boolean;

/** Share of right answers among those wanted, images being the independent units. */
export function accuracyOf(arm: ArmResult, wanted: Wanted): Estimate {
  const some = arm.answers.filter(wanted);
  if (some.length === 0) return { mean: NaN };
  const right = some.map(({ correct }) => Number(correct));
  const { value, low, high } = accuracyInterval(right, some.map(({ item }) => item));
  return { mean: value, low, high };
}

/** Accuracy of one arm minus that of another on the same questions, bootstrap over images. */
export function differenceOf(a: ArmResult, b: ArmResult, wanted: Wanted, seed: number): Estimate {
  const [first, second] = [a, b].map((arm) => arm.answers.filter(wanted));
  if (first.length === 0) return { mean: NaN };
  const score = (list: VqaAnswer[]) => list.map(({ correct }) => Number(correct));
  const groups = first.map(({ item }) => item);
  const { value, low, high } = pairedBootstrap(score(first), score(second), { seed, groups });
  return { mean: value, low, high };
}

/** Whether an arm's drawings show what was asked for. */
export function gateOf(world: DemoWorld, arm: ArmResult, config: DemoConfig): Gate | undefined {
  if (!arm.drawn || world.drawing.length === 0) return undefined;
  const classes = new Set(world.drawing.map(({ wanted }) => wanted)).size;
  const score = mean(arm.drawn.right.map(Number));
  const { learned } = judgeGate({
    score,
    shuffled: mean(arm.drawn.rightShuffled.map(Number)),
    chance: 1 / classes,
    threshold: config.gate.threshold,
    n: arm.drawn.right.length,
    learnedWhat: world.gateMeasure,
  });
  return {
    world: world.key === "planted" ? "planted" : "natural",
    arm: arm.arm,
    measure: world.gateMeasure,
    value: score,
    threshold: config.gate.threshold,
    passed: learned,
  };
}

/** The record behind figure and table. */
export function demoResult(
  worlds: WorldResult[],
  config: DemoConfig,
  facts: Omit<DemoFacts, "items" | "seeds" | "steps" | "intervals">,
): DemoResult {
  const planted = worlds.find(({ world }) => world.key === "planted");
  const main = worlds.find(({ world }) => world.key !== "planted");
  const result: DemoResult = {
    gates: worlds.flatMap(({ world, arms }) =>
      arms.flatMap((arm) => gateOf(world, arm, config) ?? [])
    ),
    probes: main ? probesOf(main) : [],
    curves: worlds.flatMap(curvesOf),
    facts: {
      ...facts,
      seeds: [config.seed],
      steps: config.steps,
      items: Math.max(...worlds.map(({ world }) => world.tests.length)),
      intervals: "95 % intervals over images (one seed: nothing is said about other seeds)",
    },
  };
  if (planted) result.planted = plantedOf(planted, config);
  if (main) {
    result.natural = naturalOf(main, config);
    const samples = samplesOf(main);
    if (samples) result.samples = samples;
  }
  return result;
}

function plantedOf({ world, arms }: WorldResult, config: DemoConfig): PlantedResult {
  const starved: Wanted = ({ name }) => name === world.starved;
  const others: Wanted = ({ name }) => name !== world.starved;
  const chances = world.questions.filter(({ name }) => name !== world.starved);
  const [und, joint] = ["und", "joint"].map((name) => arms.find(({ arm }) => arm === name)!);
  return {
    starved: world.starved!,
    chance: {
      starved: world.questions.find(({ name }) => name === world.starved)!.chance,
      others: mean(chances.map(({ chance }) => chance)),
    },
    arms: arms.map((arm) => ({
      arm: arm.arm,
      starved: accuracyOf(arm, starved),
      others: accuracyOf(arm, others),
    })),
    difference: {
      starved: differenceOf(und, joint, starved, config.seed),
      others: differenceOf(und, joint, others, config.seed),
    },
  };
}

function naturalOf({ world, arms }: WorldResult, config: DemoConfig): NaturalResult {
  const und = arms.find(({ arm }) => arm === "und");
  const joint = arms.find(({ arm }) => arm === "joint");
  const row = (name: string, chance: number, wanted: Wanted) => ({
    name,
    chance,
    arms: arms.map((arm) => ({ arm: arm.arm, accuracy: accuracyOf(arm, wanted) })),
    ...(und && joint ? { difference: differenceOf(und, joint, wanted, config.seed) } : {}),
  });
  const counts = world.questions.map(({ name }) =>
    arms[0].answers.filter((answer) => answer.name === name).length
  );
  const asked = counts.reduce((a, b) => a + b, 0);
  const chance = world.questions.reduce((sum, q, i) => sum + q.chance * counts[i] / asked, 0);
  return {
    name: world.title,
    questions: [
      ...world.questions.map(({ name, chance }) =>
        row(name, chance, (answer) => answer.name === name)
      ),
      row("mean", chance, () => true), // over all questions asked: the one primary outcome
    ],
  };
}

function probesOf({ world, arms }: WorldResult): ProbeResult[] {
  const { global, dense } = world.probeTargets;
  const estimates = (points: ProbePoint[]) =>
    points.map(({ value, low, high }) => ({ mean: value, low, high }));
  const sites = arms[0].global.map(({ site }) => site);
  const largest = Math.max(...countsOf(global.labels, global.classes)) / global.labels.length;
  const probes: ProbeResult[] = [{
    target: `${global.name} (global)`,
    metric: "accuracy",
    chance: largest,
    sites,
    arms: arms.map((arm) => ({ arm: arm.arm, values: estimates(arm.global) })),
  }];
  if (dense) {
    probes.push({
      target: `${dense.name} (dense)`,
      metric: "AUROC",
      chance: 0.5,
      sites,
      arms: arms.map((arm) => ({ arm: arm.arm, values: estimates(arm.dense) })),
    });
  }
  return probes;
}

function countsOf(labels: Int32Array, classes: number): number[] {
  const counts = new Array<number>(classes).fill(0);
  for (const label of labels) counts[label]++;
  return counts;
}

function curvesOf({ world, arms }: WorldResult): TrainingCurve[] {
  return arms.filter(({ records }) => records.length > 0).map(({ arm, records }) => ({
    world: world.title,
    arm,
    steps: records.map(({ number }) => number),
    ce: records.map(({ metrics }) => metrics.text ?? null),
    flow: records.some(({ metrics }) => metrics.flow !== undefined)
      ? records.map(({ metrics }) => metrics.flow ?? null)
      : [],
  }));
}

/** Pictures for the figure: one prompt per class, the real one above what each arm drew. */
function samplesOf({ world, arms }: WorldResult): SampleResult | undefined {
  const drew = arms.filter(({ drawn }) => drawn !== undefined);
  if (drew.length === 0 || world.drawing.length === 0) return undefined;
  const columns: number[] = [];
  const seen = new Set<number>();
  world.drawing.forEach(({ wanted }, i) => {
    if (seen.has(wanted)) return;
    seen.add(wanted);
    columns.push(i);
  });
  columns.sort((i, j) => world.drawing[i].wanted - world.drawing[j].wanted);
  return {
    prompts: columns.map((i) => world.drawing[i].prompt),
    rows: [
      { label: "real", pictures: columns.map((i) => pictureOf(world.drawing[i].real)) },
      ...drew.map(({ arm, drawn }) => ({
        label: arm,
        pictures: columns.map((i) => pictureOf(drawn!.pictures[i])),
      })),
    ],
  };
}

function pictureOf(pixels: Pixels): Picture {
  const { width, height, data } = denormalize(pixels);
  return { width, height, rgb: data };
}
