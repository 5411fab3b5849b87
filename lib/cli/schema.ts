// `deno task schema`: the JSON Schema of training configs, for editors.

import { configSchemaText } from "../train/config/print.ts";
import { type CommandSpec, processShell, runCommand, type Shell } from "./command.ts";
import type { Flags } from "./flags.ts";
import { writeResult } from "./write_result.ts";

const FLAGS = {
  out: { type: "string", unit: "FILE", help: "write it there instead of printing it" },
} as const satisfies Flags;

const SPEC: CommandSpec<typeof FLAGS> = {
  name: "schema",
  purpose:
    "The JSON Schema of training configs: editors complete and check files that name it in $schema.",
  usage: "[flags]",
  flags: FLAGS,
  exitCodes: { 4: "the file cannot be written" },
  examples: [
    ["deno task schema", "print it"],
    ["deno task schema --out my/schema.json", 'for {"$schema": "./schema.json"} beside it'],
  ],
};

/** Prints or writes the schema. */
export async function schemaCommand(shell: Shell = processShell()): Promise<void> {
  await runCommand(SPEC, async ({ flags, print, emit, note }) => {
    const text = configSchemaText();
    if (flags.out === undefined) {
      print(text.trimEnd());
      emit({ event: "schema", schema: JSON.parse(text) });
      return;
    }
    await writeResult(flags.out, text);
    emit({ event: "written", path: flags.out });
    note(`wrote ${flags.out}`);
  }, shell);
}

if (import.meta.main) await schemaCommand();
