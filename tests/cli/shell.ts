// Runs a command in this process against a shell of strings.

import type { Shell } from "../../lib/cli/command.ts";

/** What a command wrote and ended with. */
export interface Seen {
  stdout: string;
  stderr: string;
  code: number | undefined;
}

/** Runs a command with arguments; the last exit code counts, as a process has only one. */
export async function runShell(
  command: (shell: Shell) => Promise<void>,
  args: readonly string[],
): Promise<Seen> {
  const seen: Seen = { stdout: "", stderr: "", code: undefined };
  await command({
    args,
    stdout: (text) => void (seen.stdout += text),
    stderr: (text) => void (seen.stderr += text),
    terminal: false,
    noColor: true,
    exit: (code) => void (seen.code = code),
    onSignal: () => {},
    onStray: () => {},
  });
  return seen;
}
