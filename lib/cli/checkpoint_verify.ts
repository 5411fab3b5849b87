// `deno task checkpoint verify DIR`: names and shapes against the config, files against digests, values for being
// finite.

import { checkDigests, findNonFinite, readDigests } from "../model/checkpoint_verify.ts";
import { surveyCheckpoint } from "../model/checkpoint_folder.ts";
import { EXIT } from "../errors.ts";
import { ByteProgress, countText } from "./checkpoint_text.ts";
import type { CommandSpec, Context } from "./command.ts";
import type { Flags } from "./flags.ts";

const FLAGS = {
  index: {
    type: "string",
    unit: "FILE",
    help: "digests of the files: what sha256sum prints, or JSON {file: SHA-256}",
  },
  values: { type: "boolean", help: "read all weights and look for NaN and infinity" },
} as const satisfies Flags;

const spec = {
  name: "checkpoint verify",
  purpose: "Check a checkpoint folder: every tensor's name and shape, files' digests, values.",
  usage: "DIR [flags]",
  flags: FLAGS,
  positionals: { min: 1, max: 1, names: ["DIR"] },
  examples: [
    ["deno task checkpoint verify DIR", "names and shapes against the config"],
    ["deno task checkpoint verify DIR --index SHA256SUMS --values", "files and values too"],
  ],
  exitCodes: { 3: "something differs, is missing or cannot be read" },
} as const satisfies CommandSpec<typeof FLAGS>;

/** The subcommand `verify` of `deno task checkpoint`. */
export const verifyCommand = { spec, main: verify };

async function verify(context: Context<typeof FLAGS>): Promise<number> {
  const { args: [dir], flags, print, emit, note, signal } = context;
  let wrong = 0;
  const report = (check: string, good: string, lines: readonly string[]) => {
    wrong += lines.length;
    emit({ event: "check", check, wrong: lines });
    print(lines.length === 0 ? `ok    ${check}: ${good}` : `MISS  ${check}: ${lines.length}`);
    for (const line of lines) print(`      ${line}`);
  };
  // Digests first: a folder that is too damaged to be opened has the file named that is at fault.
  const digests = flags.index === undefined ? undefined : await readDigests(flags.index);
  if (digests) {
    const sizes = await Promise.all([...digests.keys()].map((name) => bytesOf(`${dir}/${name}`)));
    const total = sizes.reduce((a, b) => a + b, 0);
    const progress = new ByteProgress(context, "digests");
    const onBytes = (bytes: number, what: string) => progress.update(bytes, total, what);
    const lines = await checkDigests(dir, digests, { signal, onBytes })
      .finally(() => progress.done());
    report("digests", `${digests.size} files`, lines);
  }
  const { checkpoint, differences } = await surveyCheckpoint(dir);
  try {
    const { files, notes, surplus } = checkpoint;
    const unlisted = digests ? files.filter((name) => !digests.has(name)) : [];
    if (unlisted.length > 0) {
      report("listed", "", unlisted.map((name) => `${name} is not in ${flags.index}`));
    }
    const all = [...checkpoint.tensors.values(), ...checkpoint.autoencoder?.values() ?? []];
    report("names", `${countText(all.length)} tensors are there`, differences.missing);
    report(
      "shapes",
      "as the config has them, depths and table sizes as the files do",
      differences.misshapen,
    );
    report("dtypes", "floats or packed", differences.unreadable);
    report("depth", "decoder layers", notes.filter((text) => text.startsWith("decoder layers")));
    for (const text of notes) note(`note: ${text}`);
    if (surplus.length > 0) {
      emit({ event: "surplus", names: surplus });
      print(`      not the model's: ${checkpoint.surplusTexts().join(", ")}`);
    }
    if (flags.values) {
      const total = all.reduce((sum, { bytes, file }) => file ? sum + bytes : sum, 0);
      const progress = new ByteProgress(context, "values");
      const onBytes = (bytes: number, what: string) => progress.update(bytes, total, what);
      const lines = await findNonFinite(all, checkpoint, { signal, onBytes })
        .finally(() => progress.done());
      report("values", "all finite", lines);
    }
  } finally {
    checkpoint.close();
  }
  return wrong === 0 ? EXIT.done : EXIT.input;
}

async function bytesOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0; // reported where it is opened
    throw error;
  }
}
