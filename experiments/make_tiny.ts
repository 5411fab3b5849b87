// Trains the small model that `ask` and `generate` can be tried on without a download: the demo's joint arm in the
// natural world, which answers questions about phantoms and draws them from captions.

import { runCommand } from "../lib/cli/command.ts";
import { openDevice } from "../lib/gpu/device.ts";
import { saveModelFolder } from "../lib/infer/save_folder.ts";
import { terminalProgress } from "../lib/show/progress.ts";
import { accuracyInterval } from "../lib/study/statistics.ts";
import { measureArm, trainArm } from "./demo/arm.ts";
import { checkFolder } from "./demo/check.ts";
import { ARMS, DEFAULTS } from "./demo/config.ts";
import { startModel } from "./demo/run.ts";
import { phantomWorld } from "./demo/world.ts";

await runCommand({
  name: "make-tiny",
  purpose: "Train the small model of experiments/tiny.",
  usage: "[flags]",
  flags: {
    steps: {
      type: "integer",
      default: DEFAULTS.steps,
      min: 1,
      unit: "steps",
      help: "optimizer steps",
    },
    seed: { type: "integer", default: 0, min: 0, help: "of phantoms and their order" },
    out: { type: "string", default: "experiments/tiny", unit: "DIR", help: "the model folder" },
  },
  examples: [
    ["deno task make-tiny", "the committed model, on the same adapter bit for bit"],
    ["deno task make-tiny --steps 20 --out experiments/tiny-trial", "a short trial"],
  ],
}, async ({ flags, signal, print, terminal }) => {
  await checkFolder(flags.out, "experiments/");
  const gpu = await openDevice({ budgetBytes: 2 ** 30 });
  const config = { ...DEFAULTS, steps: flags.steps, seed: flags.seed };
  const world = phantomWorld("natural", config);
  const model = await startModel(gpu, world, config);
  const progress = terminalProgress({
    terminal,
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
    now: () => performance.now(),
  });
  await trainArm(model, ARMS.joint, world, config, {
    signal,
    onStep: ({ number, metrics }) =>
      progress.update({
        label: "joint",
        step: number,
        total: config.steps,
        fields: { text: metrics.text, flow: metrics.flow },
      }),
  });
  progress.done();
  const { answers, drawn } = await measureArm(model, ARMS.joint, world, config, { signal });
  const accuracy = accuracyInterval(
    answers.map((a) => Number(a.correct)),
    answers.map((a) => a.item),
  );
  const percent = (x: number) => (100 * x).toFixed(1);
  print(
    `held-out answers right: ${percent(accuracy.value)} % [${percent(accuracy.low)}, ${
      percent(accuracy.high)
    }] of ` +
      `${answers.length}; drawn as asked: ${
        drawn?.right.filter(Boolean).length
      } of ${drawn?.right.length}`,
  );
  const draw = { steps: config.gate.points, shift: world.shift, textGuidance: 1 };
  await saveModelFolder(flags.out, model, world.tokenizer, draw);
  print(flags.out);
  gpu.close();
});
