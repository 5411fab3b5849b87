// The main job: train a small, complete UniMedVL on matched arms, probe them, draw the comparison.
//
// Question: does learning to generate change what the model understands? The planted world answers whether
// the instrument would notice (transfer must happen there); the natural world, or real images, asks.

import { runCommand } from "../lib/cli/command.ts";
import { PROFILE_FLAGS, profiled, traceFile } from "../lib/cli/profile_flag.ts";
import { LabError } from "../lib/errors.ts";
import { openDevice } from "../lib/gpu/device.ts";
import { demoFigure } from "../lib/show/demo_figure.ts";
import { saveFigure } from "../lib/show/export.ts";
import { writeWhole } from "../lib/write_whole.ts";
import { SILENT, terminalProgress } from "../lib/show/progress.ts";
import { readConfigFile, resolveConfig, setLayer } from "../lib/study/config.ts";
import { checkFolder, checkSettings } from "./demo/check.ts";
import { DEFAULTS, QUICK_CHANGES } from "./demo/config.ts";
import { accuracyTables, budgetTable, routesTable } from "./demo/table.ts";
import { runDemo } from "./demo/run.ts";

/** Fewer steps than this teach too little for the differences to mean anything. */
const ENOUGH = 200;
const TOO_SHORT = `fewer than ${ENOUGH} steps: the path in little, too short for a verdict`;

await runCommand({
  name: "demo",
  purpose: "Train matched arms of a small UniMedVL, probe them, draw the comparison.",
  usage: "[flags]",
  flags: {
    quick: { type: "boolean", help: "the same path in little: too short for a verdict" },
    data: { type: "string", unit: "DIR", help: "real images: a medpack or VQA-RAD folder" },
    out: {
      type: "string",
      default: "results/demo",
      unit: "DIR",
      help: "where results go, below results/",
    },
    resume: { type: "boolean", help: "keep the arms that --out has finished with these settings" },
    config: { type: "string", unit: "FILE", help: "settings, as JSON" },
    set: {
      type: "list",
      unit: "FIELD=VALUE,…",
      help: "settings, such as steps=200,gate.points=30",
    },
    adapter: {
      type: "string",
      default: "any",
      choices: ["any", "gpu", "software"],
      help: "what computes; any prefers hardware",
    },
    budget: { type: "bytes", default: "1GB", help: "most device memory" },
    ...PROFILE_FLAGS,
  },
  examples: [
    ["deno task demo", "phantoms, a few minutes on two cores"],
    ["deno task demo --data ../shared/data/medpack --set steps=200", "real images"],
  ],
  exitCodes: { 3: "a file or folder cannot be read", 4: "no adapter, or out of memory" },
}, async ({ flags, signal, print, emit, note, terminal }) => {
  const layers = [
    ...(flags.quick ? [{ origin: "--quick", values: QUICK_CHANGES }] : []),
    ...(flags.config ? [readConfigFile(flags.config)] : []),
    ...(flags.set ? [setLayer(flags.set, DEFAULTS)] : []),
  ];
  const settings = resolveConfig(DEFAULTS, layers);
  checkSettings(settings.values);
  await checkFolder(flags.out, "results/");
  note(`settings: ${JSON.stringify(settings.values)}`);
  const trace = await traceFile(flags, `${flags.out}/profile.json`);
  const profile = trace !== undefined;
  const gpu = await openDevice({ adapter: flags.adapter, budgetBytes: flags.budget, profile });
  note(`adapter: ${gpu.adapter.name}${gpu.adapter.software ? " (software)" : ""}`);
  const progress = flags.quiet ? SILENT : terminalProgress({
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
    terminal,
    now: () => performance.now(),
  });
  const started = performance.now();
  try {
    const told = { emit, signal, note: (text: string) => progress.note(text) };
    const run = () =>
      runDemo(gpu, settings, {
        out: flags.out,
        resume: flags.resume,
        progress,
        signal,
        ...(flags.data ? { data: flags.data } : {}),
        ...(settings.values.steps < ENOUGH ? { remark: TOO_SHORT } : {}),
        onRoutes: (routes) => progress.note(routesTable(routes)),
        onNote: (text) => progress.note(text),
      });
    const outcome = await profiled(told, gpu, trace, run);
    progress.done();
    const seconds = (performance.now() - started) / 1000;
    for (const world of outcome.worlds) print(budgetTable(world) + "\n");
    print(accuracyTables(outcome.result) + "\n");
    const { remark } = outcome.result.facts;
    if (remark) print(`note: ${remark}\n`);
    for (const { world, arms } of outcome.worlds) {
      for (const { arm, budget } of arms) emit({ event: "arm", world: world.key, arm, budget });
    }
    const figure = demoFigure(outcome.result);
    const sources = { settings: settings.values, origins: settings.origins };
    const paths = await saveFigure(figure, `${flags.out}/demo`, { sources });
    await writeWhole(`${flags.out}/config.json`, JSON.stringify(settings, null, 1) + "\n");
    await writeWhole(`${flags.out}/metrics.csv`, outcome.metricsCsv);
    emit({ event: "result", ...outcome.result, samples: undefined, curves: undefined });
    const memory = (Deno.memoryUsage().rss / 2 ** 20).toFixed(0);
    note(`${seconds.toFixed(0)} s, ${memory} MiB resident, ${gpu.adapter.name}`);
    print(paths.find((path) => path.endsWith(".html")) ?? paths[0]);
  } catch (cause) {
    progress.done();
    if (signal.aborted) {
      const again = Deno.args.includes("--resume") ? Deno.args : [...Deno.args, "--resume"];
      note(
        `finished arms and metrics are in ${flags.out}; to go on: deno task demo ${
          again.join(" ")
        }`,
      );
    }
    throw cause instanceof LabError || !signal.aborted ? cause : signal.reason;
  } finally {
    gpu.close();
  }
});
