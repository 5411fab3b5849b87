// A made-up demo result for tests of figures: the numbers mean nothing.

import type { DemoResult, ProbeResult, TrainingCurve } from "../../lib/show/demo_result.ts";
import type { Estimate } from "../../lib/show/figure.ts";
import type { Picture } from "../../lib/show/png.ts";

const around = (mean: number, half = 0.02): Estimate => ({
  mean,
  low: Math.max(0, mean - half),
  high: Math.min(1, mean + half),
});
const spread = (mean: number, half: number): Estimate => ({
  mean,
  low: mean - half,
  high: mean + half,
});

/** A disc of some colour on black. */
export function disc(size: number, radius: number, color: [number, number, number]): Picture {
  const rgb = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const inside = Math.hypot(x - size / 2, y - size / 2) < radius;
      rgb.set(inside ? color : [12, 12, 20], (y * size + x) * 3);
    }
  }
  return { width: size, height: size, rgb };
}

const SITES = [
  "vit.out",
  "connector.out",
  "und.layers.0.out",
  "und.layers.1.out",
  "und.layers.2.out",
];

function probe(target: string, metric: string, chance: number, top: number): ProbeResult {
  const arm = (name: string, gain: number) => ({
    arm: name,
    values: SITES.map((_, k) => around(chance + gain * (0.5 + 0.12 * k), 0.015)),
  });
  const span = top - chance;
  return {
    target,
    metric,
    chance,
    sites: SITES,
    arms: [arm("untrained", span * 0.4), arm("und", span * 0.8), arm("joint", span)],
  };
}

function curves(world: string, arm: string, floor: number, flow: boolean): TrainingCurve {
  const steps = Array.from({ length: 40 }, (_, i) => 10 * (i + 1));
  const wave = (i: number) => 0.06 * Math.sin(i * 2.7);
  return {
    world,
    arm,
    steps,
    ce: steps.map((_, i) => floor + 1.8 * Math.exp(-i / 9) + wave(i)),
    flow: flow ? steps.map((_, i) => 0.22 + 0.7 * Math.exp(-i / 6) + wave(i) / 3) : [],
  };
}

/** A complete result: both worlds, probes, curves, pictures. */
export function sampleDemoResult(): DemoResult {
  const questions: [string, number, number, number, number][] = [
    ["modality", 0.125, 0.14, 0.97, 0.981],
    ["shape", 0.25, 0.26, 0.71, 0.722],
    ["lesion", 0.7, 0.69, 0.79, 0.777],
    ["where", 0.25, 0.27, 0.38, 0.401],
    ["size", 0.5, 0.52, 0.64, 0.633],
    ["tone", 0.5, 0.5, 0.83, 0.852],
    ["count", 0.42, 0.4, 0.47, 0.468],
    ["mean", 0.39, 0.397, 0.684, 0.691],
  ];
  const colors: [number, number, number][] = [
    [220, 220, 220],
    [160, 190, 230],
    [230, 150, 160],
    [240, 200, 120],
    [190, 120, 200],
    [150, 210, 170],
    [200, 200, 90],
    [120, 120, 240],
  ];
  const pictures = (radius: number) => colors.map((color) => disc(32, radius, color));
  return {
    planted: {
      starved: "modality",
      chance: { starved: 0.125, others: 0.436 },
      arms: [
        { arm: "untrained", starved: around(0.13), others: around(0.44, 0.01) },
        { arm: "und", starved: around(0.41), others: around(0.63, 0.01) },
        { arm: "joint", starved: around(0.86), others: around(0.64, 0.01) },
        { arm: "blocked", starved: around(0.42), others: around(0.63, 0.01) },
      ],
      difference: { starved: spread(0.45, 0.028), others: spread(0.008, 0.012) },
    },
    natural: {
      name: "natural world",
      questions: questions.map(([name, chance, untrained, und, joint]) => ({
        name,
        chance,
        arms: [
          { arm: "untrained", accuracy: around(untrained) },
          { arm: "und", accuracy: around(und) },
          { arm: "joint", accuracy: around(joint) },
        ],
        difference: spread(joint - und, 0.021),
      })),
    },
    gates: [
      gate("planted", 0.83, true),
      gate("natural", 0.31, false),
    ],
    probes: [
      probe("modality (global)", "balanced accuracy", 0.125, 0.99),
      probe("lesion place (dense)", "AUC", 0.5, 0.93),
    ],
    curves: [
      curves("planted", "und", 0.9, false),
      curves("planted", "joint", 0.82, true),
      curves("planted", "blocked", 0.9, true),
      curves("natural", "und", 0.65, false),
      curves("natural", "joint", 0.66, true),
    ],
    samples: {
      prompts: ["x-ray", "ct", "mri", "ultrasound", "histology", "dermoscopy", "fundus", "oct"],
      rows: [
        { label: "real", pictures: pictures(12) },
        { label: "joint", pictures: pictures(10) },
        { label: "blocked", pictures: pictures(9) },
      ],
    },
    facts: {
      seeds: [0],
      steps: 400,
      items: 1500,
      parameters: 1_234_567,
      adapter: "llvmpipe 256-bit (software)",
      commit: "1a2b3c4",
      init: "a common initialization (experiments/start.ts)",
      intervals: "95 % bootstrap interval over images",
    },
  };
}

function gate(world: "planted" | "natural", value: number, passed: boolean) {
  const measure = "drawn modality matches the prompt";
  return { world, arm: "joint", measure, value, threshold: 0.5, passed };
}
