// `deno task data check PATH`: what is done to training data as such.

import { EXIT, UsageError } from "../errors.ts";
import { processShell, runCommand, type Shell } from "./command.ts";
import { dataCheckCommand } from "./data_check.ts";

const HELP = [
  "Look at training data before it is trained on.",
  "",
  "usage: deno task data SUBCOMMAND [flags]",
  "",
  "subcommands",
  "  check     counts, lengths, and what is wrong, repeated or in two splits",
  "",
  "`deno task data SUBCOMMAND --help` shows flags and examples.",
  "",
].join("\n");

/** Runs the subcommand that the arguments name. */
export async function dataCommand(shell: Shell = processShell()): Promise<void> {
  const [name, ...args] = shell.args;
  if (name === "check") return await dataCheckCommand({ ...shell, args });
  if (name === "--help" || name === "-h") {
    shell.stdout(HELP);
    return shell.exit(EXIT.done);
  }
  const spec = { name: "data", purpose: "", usage: "SUBCOMMAND [flags]", flags: {}, examples: [] };
  await runCommand(spec, () => {
    throw new UsageError(
      `Cannot run data: ${name ? `no subcommand ${name}` : "what to do is missing"}`,
      { help: "the subcommand is check" },
    );
  }, { ...shell, args: args.filter((arg) => arg === "--json") });
}

if (import.meta.main) await dataCommand();
