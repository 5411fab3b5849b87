// What does training on more ranks cost, and when does it pay? Prints the cost model of experiments/scaling.md for the
// small and the published model, and with --measure the points of this machine that it is checked against.

import { runCommand } from "../lib/cli/command.ts";
import { PRESETS } from "../lib/model/config.ts";
import { parameterShapes } from "../lib/model/shapes.ts";
import { sizeOf } from "../lib/tensor.ts";
import { measure, measureSpeeds } from "./scaling/measure.ts";
import { BUCKET, costOf, type Machine, type Work } from "./scaling/model.ts";

/** Round figures of data sheets, not measured here. */
const CLUSTERS: Machine[] = [
  {
    name: "100 Gb/s, PCIe 4",
    latency: 5e-6,
    network: 11e9,
    wait: 11e-3,
    readBack: 20e9,
    writeBack: 20e9,
  },
  {
    name: "10 Gb/s, PCIe 4",
    latency: 30e-6,
    network: 1.1e9,
    wait: 11e-3,
    readBack: 20e9,
    writeBack: 20e9,
  },
];
/** Assumed speed of a card in training, in operations per second. */
const CARD = 150e12;
/** Tokens of one rank's window, and of its last micro-batch. */
const TOKENS = 32768;
const MICRO = 8192;
const RANKS = [2, 8, 16, 32, 64];
const RANK_OF_LORA = 8;

/** The published model: a token passes one expert, so half the decoder's weights. */
function published(): Work[] {
  const shapes = [...parameterShapes(PRESETS["unimedvl-14b"])];
  const all = shapes.reduce((n, [, shape]) => n + sizeOf(shape), 0);
  const expert = shapes.filter(([name]) => name.startsWith("und."))
    .reduce((n, [, shape]) => n + sizeOf(shape), 0);
  const lora = shapes.filter(([name]) => /^und\.layers\.\d+\.attn\.[qkvo]\.weight$/.test(name))
    .reduce((n, [, [outputs, inputs]]) => n + RANK_OF_LORA * (outputs + inputs), 0);
  // 2 operations per weight forward, 4 backward; frozen weights need 2 of those 4.
  const seconds = (tokens: number, each: number) => each * expert * tokens / CARD;
  return [
    {
      name: "unimedvl-14b, all weights (bf16)",
      trainable: all,
      weightBytes: 2,
      compute: seconds(TOKENS, 6),
      backward: seconds(MICRO, 4),
    },
    {
      name: `unimedvl-14b, LoRA of rank ${RANK_OF_LORA} on und attention`,
      trainable: lora,
      weightBytes: 4,
      compute: seconds(TOKENS, 4),
      backward: seconds(MICRO, 2),
    },
  ];
}

const tinyTrainable = [...parameterShapes(PRESETS.tiny)]
  .filter(([name]) => !/^(connector|latent)\.position$/.test(name))
  .reduce((n, [, shape]) => n + sizeOf(shape), 0);

function table(print: (text: string) => void, machine: Machine, work: Work): void {
  print(
    `\n${work.name}, ${machine.name}: ${bytes(4 * work.trainable)} of gradients, compute ` +
      `${ms(work.compute)}, last backward ${ms(work.backward)}`,
  );
  print("  ranks  sent/rank   exchange    exposed  efficiency   shared out: exposed  efficiency");
  for (const ranks of RANKS) {
    const [plain, sharded] = [costOf(machine, work, ranks), costOf(machine, work, ranks, true)];
    print(
      [
        String(ranks).padStart(7),
        bytes(plain.sent).padStart(10),
        ms(plain.exchange).padStart(10),
        ms(plain.exposed).padStart(10),
        percent(plain.efficiency).padStart(11),
        ms(sharded.exposed).padStart(21),
        percent(sharded.efficiency).padStart(11),
      ].join(" "),
    );
  }
}

const bytes = (n: number) => n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : `${(n / 1e6).toFixed(1)} MB`;
const ms = (s: number) =>
  s >= 10 ? `${s.toFixed(1)} s` : `${(1000 * s).toFixed(s < 0.1 ? 1 : 0)} ms`;
const percent = (x: number) => `${(100 * x).toFixed(1)} %`;

await runCommand({
  name: "scaling",
  purpose: "Print what exchanging gradients costs on more ranks, and check it on this machine.",
  usage: "[flags]",
  flags: {
    measure: { type: "boolean", help: "train on one and two ranks of this machine (minutes)" },
    steps: { type: "integer", default: 20, min: 3, help: "steps of each training with --measure" },
  },
  examples: [
    ["deno task scaling", "the model for 2 to 64 ranks"],
    ["deno task scaling --measure", "measured points beside it"],
  ],
}, async ({ flags, print, emit }) => {
  print(
    `A bucket is ${bytes(BUCKET)}; a card does ${
      CARD / 1e12
    } Tflop/s; ${TOKENS} tokens a rank and window.`,
  );
  for (const machine of CLUSTERS) {
    for (const work of published()) table(print, machine, work);
    const compute = 0.2; // of tiny on two cores, roughly
    table(print, machine, {
      name: "tiny",
      trainable: tinyTrainable,
      weightBytes: 4,
      compute,
      backward: compute / 2,
    });
  }
  if (!flags.measure) return;
  const speeds = await measureSpeeds();
  const here: Machine = { name: "this machine", ...speeds };
  print(
    `\nTwo ranks here: ${(1e6 * speeds.latency).toFixed(0)} µs a message, ${
      bytes(speeds.network)
    }/s ` +
      `between ranks, ${bytes(speeds.readBack)}/s read back, ${
        bytes(speeds.writeBack)
      }/s written, ${ms(speeds.wait)} of waits`,
  );
  emit({ event: "speeds", ...speeds });
  const workOf = (megabytes: number, seconds: number): Work => ({
    name: "measured",
    trainable: megabytes * 1e6 / 4,
    weightBytes: 4,
    compute: seconds,
    backward: seconds / 2,
  });
  print("  exchange alone: MB, predicted ms, measured ms");
  for (const { megabytes, ms } of speeds.exchanges) {
    const { exchange } = costOf(here, workOf(megabytes, 0), 2, false, 2 ** 20);
    print(
      `  ${megabytes.toFixed(1).padStart(18)} ${(1000 * exchange).toFixed(0).padStart(13)} ${
        ms.toFixed(0).padStart(12)
      }`,
    );
  }
  print(
    "  width  ranks    step ms  MB/step  first to last ms  waited ms  predicted: exchange, exposed ms",
  );
  for (const width of [96, 256]) {
    const one = await measure(1, width, flags.steps);
    const two = await measure(2, width, flags.steps);
    for (const point of [one, two]) {
      const work = workOf(point.megabytes, one.step / 1000);
      const cost = costOf(here, work, point.ranks, false, 2 ** 20);
      print(
        [
          String(width).padStart(7),
          String(point.ranks).padStart(6),
          point.step.toFixed(0).padStart(10),
          point.megabytes.toFixed(1).padStart(8),
          point.exchange.toFixed(0).padStart(17),
          point.waited.toFixed(0).padStart(10),
          `${(1000 * cost.exchange).toFixed(0)}, ${(1000 * cost.exposed).toFixed(0)}`.padStart(20),
        ].join(" "),
      );
      emit({ event: "point", ...point, predicted: cost });
    }
  }
});
