// `deno task checkpoint inspect|verify|quantize|merge|synth|download`: everything done to a checkpoint folder as such.

import { EXIT, UsageError } from "../errors.ts";
import { type CommandSpec, type Main, processShell, runCommand, type Shell } from "./command.ts";
import { type Flags, nearest } from "./flags.ts";

/** A subcommand; its name is typed after `deno task checkpoint`. */
interface Subcommand<T extends Flags> {
  spec: CommandSpec<T>;
  main: Main<T>;
}

const start = <T extends Flags>({ spec, main }: Subcommand<T>) => (shell: Shell) =>
  runCommand(spec, main, shell);

/** Name → what it does, and how it is loaded: only what runs is, the hub's library for one of them. */
const SUBCOMMANDS: Record<
  string,
  [purpose: string, load: () => Promise<(shell: Shell) => Promise<void>>]
> = {
  inspect: [
    "what a folder holds",
    async () => start((await import("./checkpoint_inspect.ts")).inspectCommand),
  ],
  verify: [
    "names, shapes, digests and values",
    async () => start((await import("./checkpoint_verify.ts")).verifyCommand),
  ],
  quantize: [
    "write a folder in 8 or 4 bits",
    async () => start((await import("./checkpoint_quantize.ts")).quantizeCommand),
  ],
  merge: [
    "write a folder with an adapter's changes in its weights",
    async () => start((await import("./checkpoint_merge.ts")).mergeCommand),
  ],
  synth: [
    "write a folder of real shapes with random weights",
    async () => start((await import("./checkpoint_synth.ts")).synthCommand),
  ],
  download: [
    "get a published folder from the hub",
    async () => start((await import("./checkpoint_download.ts")).downloadCommand),
  ],
};

const HELP = [
  "Look at, check, quantize, merge, make up or download a checkpoint folder.",
  "",
  "usage: deno task checkpoint SUBCOMMAND [flags]",
  "",
  "subcommands",
  ...Object.entries(SUBCOMMANDS).map(([name, [purpose]]) => `  ${name.padEnd(9)} ${purpose}`),
  "",
  "`deno task checkpoint SUBCOMMAND --help` shows flags and examples.",
  "",
].join("\n");

/** Runs the subcommand that the arguments name. */
export async function checkpointCommand(shell: Shell = processShell()): Promise<void> {
  const [name, ...args] = shell.args;
  const found = Object.hasOwn(SUBCOMMANDS, name ?? "") ? SUBCOMMANDS[name] : undefined;
  if (found) return await (await found[1]())({ ...shell, args });
  if (name === "--help" || name === "-h") {
    shell.stdout(HELP);
    return shell.exit(EXIT.done);
  }
  await runCommand({
    name: "checkpoint",
    purpose: "",
    usage: "SUBCOMMAND [flags]",
    flags: {},
    examples: [],
  }, () => {
    const names = Object.keys(SUBCOMMANDS);
    const near = nearest(name ?? "", names);
    throw new UsageError(
      `Cannot run checkpoint: ${name ? `no subcommand ${name}` : "what to do is missing"}`,
      {
        help: near ? `did you mean ${near}?` : `subcommands are ${names.join(", ")}`,
      },
    );
  }, { ...shell, args: args.filter((arg) => arg === "--json") });
}

if (import.meta.main) await checkpointCommand();
