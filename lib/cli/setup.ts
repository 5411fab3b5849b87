// `deno task setup`: finds what the demo and the tests need and installs what is missing, or says the one command that
// does. Every look is a real one (an adapter is opened, text is drawn), so a second run says the truth in half a second.

import { ResourceError } from "../errors.ts";
import { type Context, runCommand } from "./command.ts";
import type { Flags } from "./flags.ts";
import { findPython } from "./python.ts";
import {
  familyOf,
  installCommand,
  type Need,
  packagesFor,
  type System,
  thisSystem,
} from "./system.ts";

/** One thing looked for. */
export interface Finding {
  item: "deno" | "packages" | Need;
  ok: boolean;
  /** What was found, or what is wrong. */
  detail: string;
  /** It works, but installing what it needs anew would give a faster one. */
  slow?: boolean;
  /** Nothing but training on several machines and its tests needs it. */
  optional?: boolean;
}

const ROOT = new URL("../../", import.meta.url).pathname;
const OLDEST = [2, 8]; // text imports without a flag

const NVIDIA_TOOL = "/usr/bin/nvidia-smi"; // /dev itself may not be read without all permissions

/** What sharp, onnxruntime and a drawing of text need; writing and the network are not among it. */
const PACKAGE_FLAGS = [
  "--allow-read",
  "--allow-ffi=node_modules",
  "--allow-sys=cpus",
  "--allow-env",
];

/** Looks for everything at once. */
export async function look(system: System, denoVersion: string): Promise<Finding[]> {
  const found = await Promise.all([
    lookAtDeno(denoVersion),
    lookForAdapter(system),
    lookForPackages(system),
    lookForPython(system),
    lookForMpi(system),
  ]);
  return found.flat();
}

function lookAtDeno(version: string): Finding {
  const [major, minor] = version.split(".").map(Number);
  const ok = major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
  const detail = ok ? version : `${version}; needs ${OLDEST.join(".")} or later`;
  return { item: "deno", ok, detail };
}

/** Runs a probe in a process of its own and reads the JSON line it prints. */
async function probe(
  system: System,
  file: string,
  flags: string[],
): Promise<Record<string, unknown>> {
  const path = `${ROOT}lib/cli/${file}`;
  const result = await system.run("deno", [
    "run",
    "--quiet",
    "--no-prompt",
    "--cached-only", // to look is not to install
    "--frozen",
    `--config=${ROOT}deno.json`,
    ...flags,
    path,
  ]);
  if (!result) return { error: "the deno command is not on PATH" };
  const line = result.stdout.trim().split("\n").at(-1) ?? "";
  if (line.startsWith("{")) return JSON.parse(line);
  const said = result.stderr.trim().split("\n").filter((l) => l.startsWith("error")).at(0);
  return { error: said ?? `${file} ended with code ${result.code} and said nothing` };
}

async function lookForAdapter(system: System): Promise<Finding> {
  const facts = await probe(system, "probe_adapter.ts", []);
  if (typeof facts.name !== "string") {
    return { item: "adapter", ok: false, detail: firstLine(facts.error) };
  }
  let detail = facts.name + (facts.software ? ", software" : "");
  // Without Vulkan, WebGPU falls back to OpenGL's software renderer: correct, but it promises no subgroup size.
  if (facts.software && facts.subgroupSize === 0 && system.os === "linux") {
    detail += ` through OpenGL; faster with Vulkan: ${installCommand(system, ["adapter"])}`;
    return { item: "adapter", ok: true, detail, slow: true };
  }
  if (facts.software && await system.exists(NVIDIA_TOOL)) {
    detail += `; ${NVIDIA_TOOL} is there: for its GPU install the Vulkan part of that driver`;
  }
  return { item: "adapter", ok: true, detail };
}

async function lookForPackages(system: System): Promise<Finding[]> {
  const facts = await probe(system, "probe_packages.ts", PACKAGE_FLAGS);
  if (typeof facts.sharp !== "string") {
    return [{ item: "packages", ok: false, detail: firstLine(facts.error) }];
  }
  return [
    { item: "packages", ok: true, detail: `sharp ${facts.sharp}, onnxruntime-node` },
    facts.text === true
      ? { item: "fonts", ok: true, detail: "text is drawn" }
      : { item: "fonts", ok: false, detail: "text is drawn as boxes: there are no fonts" },
  ];
}

async function lookForPython(system: System): Promise<Finding> {
  const python = await findPython(system.run);
  return python
    ? { item: "notebook", ok: true, detail: `${python} with nbclient` }
    : { item: "notebook", ok: false, detail: "no Python with nbclient" };
}

async function lookForMpi(system: System): Promise<Finding> {
  const result = await system.run("mpirun", ["--version"]);
  const version = /Open MPI\)? (\d[\w.]*)/.exec(result?.stdout ?? "")?.[1];
  if (version) return { item: "mpi", ok: true, detail: `Open MPI ${version}` };
  const command = installCommand(system, ["mpi"]);
  const detail = `no Open MPI, for training on several machines only: ${command}`;
  return { item: "mpi", ok: false, detail, optional: true };
}

/**
 * Installs what is missing as far as this process may, and looks again.
 *
 * @throws {ResourceError} If something that is not optional stays missing; the help is the command to type
 */
export async function setUp(
  system: System,
  denoVersion: string,
  options: { check: boolean; note: (text: string) => void },
): Promise<Finding[]> {
  let findings = await look(system, denoVersion);
  const missing = () => findings.filter((f) => !f.ok).map((f) => f.item);
  const complete = missing().length === 0 && !findings.some((f) => f.slow);
  if (options.check || complete) return refuse(system, findings);

  if (missing().includes("packages")) {
    options.note("installing the npm packages of deno.lock …");
    const result = await system.run("deno", [
      "install",
      "--quiet",
      "--frozen",
      `--config=${ROOT}deno.json`,
    ]);
    if (result?.code !== 0) {
      throw new ResourceError(`Cannot install the npm packages: ${lastLine(result?.stderr)}`, {
        help: "check the network or npm's registry setting, then run `deno install` here",
      });
    }
    const again = await lookForPackages(system);
    findings = [...findings.filter((f) => f.item !== "packages"), ...again];
  }
  if (familyOf(system) === "debian" && system.root) {
    const needs = missing().filter((item): item is Need => item !== "deno" && item !== "packages");
    const slow = findings.some((f) => f.slow);
    if (slow) needs.push("adapter");
    if (needs.length > 0) {
      try {
        await installDebian(system, packagesFor("debian", needs), options.note);
      } catch (error) {
        const wanted = findings.some((f) => !f.ok && !f.optional);
        if (wanted || !(error instanceof ResourceError)) throw error;
        const without = slow ? "with the slower adapter" : `without ${missing().join(", ")}`;
        options.note(`${error.message}; going on ${without}`);
      }
      findings = await look(system, denoVersion);
    }
  }
  return refuse(system, findings);
}

async function installDebian(
  system: System,
  packages: string[],
  note: (text: string) => void,
): Promise<void> {
  note(`installing ${packages.join(" ")} …`);
  const env = { DEBIAN_FRONTEND: "noninteractive" }; // a package's question would wait forever
  const quiet = ["-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=60"];
  for (
    const args of [
      [...quiet, "update"],
      [...quiet, "install", "-y", "--no-install-recommends", ...packages],
    ]
  ) {
    const result = await system.run("/usr/bin/apt-get", args, env);
    if (result?.code !== 0) {
      throw new ResourceError(`Cannot install packages: ${lastLine(result?.stderr)}`, {
        help: `see what this says: apt-get ${args.slice(quiet.length).join(" ")}`,
      });
    }
  }
}

const firstLine = (text: unknown) => String(text).split("\n")[0];

const lastLine = (text: string | undefined) =>
  text?.trim().split("\n").at(-1) || "the command is not there";

/** Returns findings that lack nothing but what is optional; throws with the repair otherwise. */
function refuse(system: System, findings: Finding[]): Finding[] {
  const missing = findings.filter((f) => !f.ok && !f.optional);
  if (missing.length === 0) return findings;
  const what = missing.map((f) => `${f.item} (${f.detail})`).join(", ");
  throw new SetupIncomplete(`Cannot go on without: ${what}`, findings, repairFor(system, missing));
}

/** What to type to get what is missing: one line. */
export function repairFor(system: System, missing: readonly Finding[]): string {
  const steps: string[] = [];
  const items = missing.map((f) => f.item);
  if (items.includes("deno")) steps.push("npm install -g deno@latest");
  if (items.includes("packages")) steps.push("deno install");
  const needs = items.filter((item): item is Need => item !== "deno" && item !== "packages");
  if (needs.length > 0) steps.push(installCommand(system, needs));
  return steps.join(" && ");
}

/** Something is missing that setup may not or cannot install (exit 4). */
export class SetupIncomplete extends ResourceError {
  readonly findings: Finding[];

  constructor(message: string, findings: Finding[], help: string) {
    super(message, { help });
    this.findings = findings;
  }
}

const FLAGS = {
  check: { type: "boolean", help: "only report, install nothing" },
} as const satisfies Flags;

/** Prints findings, one line each. */
function report(context: Context<typeof FLAGS>, findings: Finding[]): void {
  for (const { item, ok, detail } of findings) {
    context.print(`${item.padEnd(9)} ${ok ? detail : `missing: ${detail}`}`);
    context.emit({ event: "item", item, ok, detail });
  }
}

if (import.meta.main) {
  await runCommand({
    name: "setup",
    purpose:
      "Finds a WebGPU adapter and what the tests need; installs what is missing or says how.",
    usage: "[flags]",
    flags: FLAGS,
    examples: [
      ["deno task setup", "install what is missing (Debian or Ubuntu, as root)"],
      ["deno task setup --check --json", "report only, for programs"],
    ],
    exitCodes: { 4: "something is missing; the help line says what to type" },
  }, async (context) => {
    const { check } = context.flags;
    try {
      const options = { check, note: context.note };
      report(context, await setUp(await thisSystem(), Deno.version.deno, options));
    } catch (error) {
      if (error instanceof SetupIncomplete) report(context, error.findings);
      throw error;
    }
  });
}
