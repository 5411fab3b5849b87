// `deno task runs [list|show|diff|plot|query|export|index]`: what run folders have recorded. Without a subcommand it
// lists.

import { EXIT, UsageError } from "../errors.ts";
import { type CommandSpec, type Main, processShell, runCommand, type Shell } from "./command.ts";
import { type Flags, nearest } from "./flags.ts";

/** A subcommand; its name is typed after `deno task runs`. */
export interface Subcommand<T extends Flags> {
  spec: CommandSpec<T>;
  main: Main<T>;
}

const start = <T extends Flags>({ spec, main }: Subcommand<T>) => (shell: Shell) =>
  runCommand(spec, main, shell);

/** Name → what it does, and how it is loaded: figures only when one is drawn. */
const SUBCOMMANDS: Record<
  string,
  [purpose: string, load: () => Promise<(shell: Shell) => Promise<void>>]
> = {
  list: [
    "every run, how far it got and how it ended",
    async () => start((await import("./runs_list.ts")).listRuns),
  ],
  show: [
    "one run: sessions, metrics, evaluations, events",
    async () => start((await import("./runs_show.ts")).showRun),
  ],
  diff: [
    "how two runs differ in settings, sources and results",
    async () => start((await import("./runs_diff.ts")).diffRuns),
  ],
  plot: [
    "metrics of some runs as a figure",
    async () => start((await import("./runs_plot.ts")).plotRuns),
  ],
  query: [
    "a SELECT over one run, or over the index of all",
    async () => start((await import("./runs_query.ts")).queryRuns),
  ],
  export: [
    "a run's metrics or another table as CSV",
    async () => start((await import("./runs_export.ts")).exportRun),
  ],
  index: [
    "read every run again into the index",
    async () => start((await import("./runs_index.ts")).indexRuns),
  ],
};

const HELP = [
  "Look at what run folders have recorded.",
  "",
  "usage: deno task runs [SUBCOMMAND] [flags]",
  "",
  "subcommands",
  ...Object.entries(SUBCOMMANDS).map(([name, [purpose]]) => `  ${name.padEnd(7)} ${purpose}`),
  "",
  "Without a subcommand: list. `deno task runs SUBCOMMAND --help` shows flags and examples.",
  "",
].join("\n");

/** Runs the subcommand that the arguments name. */
export async function runsCommand(shell: Shell = processShell()): Promise<void> {
  const [name = "list", ...args] = shell.args;
  if (name === "--help" || name === "-h") {
    shell.stdout(HELP);
    return shell.exit(EXIT.done);
  }
  if (name.startsWith("-")) return await (await SUBCOMMANDS.list[1]())(shell);
  if (Object.hasOwn(SUBCOMMANDS, name)) {
    return await (await SUBCOMMANDS[name][1]())({ ...shell, args });
  }
  await runCommand({ name: "runs", purpose: "", usage: "", flags: {}, examples: [] }, () => {
    const near = nearest(name, Object.keys(SUBCOMMANDS));
    throw new UsageError(`Cannot run runs: no subcommand ${name}`, {
      help: near
        ? `did you mean ${near}?`
        : `subcommands are ${Object.keys(SUBCOMMANDS).join(", ")}`,
    });
  }, { ...shell, args: args.filter((arg) => arg === "--json") });
}

if (import.meta.main) await runsCommand();
