// `deno task doctor`: what this machine offers, whether every kernel family computes here what it should, and
// what to type where something is missing.

import { EXIT, ResourceError, UsageError } from "../errors.ts";
import { type Gpu, openDevice } from "../gpu/device.ts";
import type { Row } from "../parity/compare.ts";
import { checkFamilies } from "../parity/families.ts";
import { type CommandSpec, type Context, runCommand } from "./command.ts";
import { adapterFactsOf } from "./doctor_adapter.ts";
import { installedKernel } from "./doctor_notebook.ts";
import { tune } from "./doctor_tune.ts";
import type { Flags } from "./flags.ts";
import { type Finding, look, repairFor } from "./setup.ts";
import { thisSystem } from "./system.ts";

const PARTS = ["adapter", "kernels", "notebook"] as const;

const FLAGS = {
  only: { type: "list", choices: PARTS, default: PARTS, help: "some of the parts" },
  adapter: {
    type: "string",
    default: "any",
    choices: ["any", "gpu", "software"],
    help: "which adapter to look at",
  },
  tune: { type: "boolean", help: "measure the matmul tiles of this adapter and keep the fastest" },
  cases: { type: "boolean", help: "print every check of a kernel family, not only the closest" },
} as const satisfies Flags;

type Doctor = Context<typeof FLAGS>;

/** Width of the column of names. */
const WIDTH = 27;

/** What setup's items are called here, where that is not their own name. */
const NAMES: Partial<Record<Finding["item"], string>> = {
  notebook: "notebook runner",
  packages: "native packages",
  mpi: "several machines",
};

/** The command as it is typed. */
export const DOCTOR = {
  name: "doctor",
  purpose: "Says what this machine offers, checks the kernels on it, and names repairs.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [
    ["deno task doctor", "everything, in a few seconds"],
    [
      "deno task doctor --tune --only adapter",
      "choose the fastest matmul tiles, in some 20 seconds",
    ],
    ["deno task doctor --only kernels --json", "the kernel checks, for programs"],
  ],
  exitCodes: {
    1: "a kernel family disagrees with its reference, or a part is missing",
    4: "there is no adapter",
  },
} as const satisfies CommandSpec<typeof FLAGS>;

/** Examines the parts asked for; all of them, even after one is found wanting. */
export async function doctor(context: Doctor): Promise<number> {
  const parts = new Set<string>(context.flags.only);
  if (context.flags.tune && !parts.has("adapter")) {
    throw new UsageError("Cannot use --tune without the part adapter", {
      help: `--only ${["adapter", ...parts].join(",")}`,
    });
  }
  let exitCode: number = EXIT.done;
  if (parts.has("adapter") || parts.has("kernels")) {
    exitCode = await examineAdapter(context, parts);
  }
  if (parts.has("notebook")) {
    const complete = await examineSystem(context);
    if (exitCode === EXIT.done && !complete) exitCode = EXIT.fault;
  }
  return exitCode;
}

async function examineAdapter(context: Doctor, parts: Set<string>): Promise<number> {
  let gpu: Gpu;
  try {
    gpu = await openDevice({ adapter: context.flags.adapter });
  } catch (error) {
    if (!(error instanceof ResourceError)) throw error;
    report(context, { part: "adapter", item: "adapter", ok: false, text: error.message });
    repair(context, error.help);
    return EXIT.resources;
  }
  if (context.flags.tune) await tune(context, gpu);
  if (parts.has("adapter")) {
    for (const { name, text } of adapterFactsOf(gpu)) {
      context.print(`${name.padEnd(WIDTH)} ${text}`);
      context.emit({ event: "fact", part: "adapter", name, text });
    }
  }
  const good = !parts.has("kernels") || await examineKernels(context, gpu);
  gpu.close();
  return good ? EXIT.done : EXIT.fault;
}

async function examineKernels(context: Doctor, gpu: Gpu): Promise<boolean> {
  let good = true;
  for await (const { family, rows } of checkFamilies(gpu)) {
    context.signal.throwIfAborted();
    const misses = rows.filter((row) => !row.ok);
    const ok = misses.length === 0;
    good &&= ok;
    const worst = rows.reduce((a, b) => b.error / b.tolerance > a.error / a.tolerance ? b : a);
    const text = `${String(rows.length).padStart(3)} checks, worst ${
      fraction(worst)
    } (${worst.tensor})`;
    report(context, { part: "kernels", item: family, ok, text });
    for (const row of context.flags.cases ? rows : misses) {
      const line = `${row.tensor}: ${fraction(row)}${row.note ? `, ${row.note}` : ""}`;
      context.print(`  ${row.ok ? "ok  " : "FAIL"} ${line}`);
      const { case: family, tensor: check, ...rest } = row;
      context.emit({ event: "check", family, check, ...rest });
    }
  }
  if (!good) {
    repair(
      context,
      "this driver computes something else: update it, or use --adapter software meanwhile",
    );
  }
  return good;
}

/** What setup looks for, but for the adapter, which was examined more closely. */
async function examineSystem(context: Doctor): Promise<boolean> {
  const system = await thisSystem();
  const findings = (await look(system, Deno.version.deno)).filter((f) => f.item !== "adapter");
  const needed = findings.filter((f) => !f.optional);
  for (const { item, ok, detail } of needed) {
    report(context, { part: "notebook", item: NAMES[item] ?? item, ok, text: detail });
  }
  const kernel = await installedKernel(system.run);
  if (kernel !== undefined) {
    context.print(`     ${"notebook kernel".padEnd(WIDTH - 5)} ${kernel}`);
    context.emit({ event: "fact", part: "notebook", name: "notebook kernel", text: kernel });
  }
  for (const { item, detail } of findings.filter((f) => f.optional)) {
    context.print(`     ${(NAMES[item] ?? item).padEnd(WIDTH - 5)} ${detail}`);
    context.emit({ event: "fact", part: "notebook", name: NAMES[item] ?? item, text: detail });
  }
  const missing = needed.filter((f) => !f.ok);
  if (missing.length > 0) repair(context, repairFor(system, missing));
  return missing.length === 0;
}

interface Verdict {
  part: (typeof PARTS)[number];
  item: string;
  ok: boolean;
  text: string;
}

function report(context: Doctor, { part, item, ok, text }: Verdict): void {
  context.print(`${ok ? "ok  " : "FAIL"} ${item.padEnd(WIDTH - 5)} ${text}`);
  context.emit({ event: "item", part, item, ok, text });
}

function repair(context: Doctor, text: string | undefined): void {
  if (text === undefined) return;
  context.print(`repair: ${text}`);
  context.emit({ event: "repair", text });
}

function fraction({ error, tolerance }: Row): string {
  return `${error.toExponential(1)} / ${tolerance.toExponential(0)}`;
}

if (import.meta.main) await runCommand(DOCTOR, doctor);
