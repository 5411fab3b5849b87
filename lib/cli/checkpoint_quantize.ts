// `deno task checkpoint quantize DIR --to int4 --out DIR2`.

import { UsageError } from "../errors.ts";
import { quantizeCheckpoint, type QuantizedPart } from "../model/quantize.ts";
import { GROUP } from "../packed_layout.ts";
import { ByteProgress, freeBytes, sizeText, tableText } from "./checkpoint_text.ts";
import { type CommandSpec, type Context, Interrupted } from "./command.ts";
import type { Flags } from "./flags.ts";

const FLAGS = {
  to: { type: "string", choices: ["int8", "int4"], help: "bits of a weight" },
  out: { type: "string", unit: "DIR2", help: "the folder to write; it must not exist" },
  only: {
    type: "list",
    unit: "PATTERNS",
    help: "pack these instead of the usual ones: und.layers.0-3, gen, vit.layers.*.mlp, text.head",
  },
  keep: { type: "list", unit: "PATTERNS", help: "leave these in bf16" },
  group: { type: "integer", default: GROUP, unit: "values", help: "that share a scale" },
  shard: { type: "bytes", default: "4GB", help: "of a file, about" },
  force: { type: "boolean", help: "remove an unfinished DIR2.partial that cannot be gone on with" },
} as const satisfies Flags;

const spec = {
  name: "checkpoint quantize",
  purpose: "Write a checkpoint folder with its matrices in 8 or 4 bits, in groups with a scale.",
  usage: "DIR --to int8|int4 --out DIR2 [flags]",
  flags: FLAGS,
  positionals: { min: 1, max: 1, names: ["DIR"] },
  examples: [
    ["deno task checkpoint quantize DIR --to int4 --out DIR2", "29.2 GB become 10 GB"],
    [
      "deno task checkpoint quantize DIR --to int8 --out DIR2 --keep gen,vit",
      "only the understanding expert and the connector",
    ],
  ],
  exitCodes: {
    3: "the folder cannot be opened, or a value is not finite",
    4: "too little space, or the disk cannot be written to",
    6: "another process is writing DIR2",
  },
} as const satisfies CommandSpec<typeof FLAGS>;

/** The subcommand `quantize` of `deno task checkpoint`. A run that was killed goes on where it was. */
export const quantizeCommand = { spec, main: quantize };

async function quantize(context: Context<typeof FLAGS>): Promise<void> {
  const { args: [dir], flags, print, emit, note, signal } = context;
  const { to, out, only, keep, group, shard, force } = flags;
  if (to === undefined || out === undefined) {
    throw new UsageError(
      `Cannot quantize ${dir}: --${to === undefined ? "to" : "out"} is missing`,
      {
        help: `usage: deno task ${spec.name} ${spec.usage}`,
      },
    );
  }
  if (group !== GROUP) {
    throw new UsageError(`Cannot quantize in groups of ${group}`, {
      help: `the layout that devices read has groups of ${GROUP}`,
    });
  }
  const progress = new ByteProgress(context, `quantize ${to}`);
  let told = false, skipped = 0;
  try {
    const { parts, bytes } = await quantizeCheckpoint(dir, folderName(out), {
      to,
      ...(only ? { only: wholePatterns(only) } : {}),
      ...(keep ? { keep: wholePatterns(keep) } : {}),
      shardBytes: shard,
      force,
      freeBytes,
      signal,
      onProgress({ doneBytes, totalBytes, tensor, resumed }) {
        if (resumed > 0 && !told) {
          note(`going on: ${resumed} tensors were written before`);
          skipped = doneBytes;
        }
        told = true;
        progress.update(doneBytes, totalBytes, tensor, skipped);
      },
    });
    progress.done();
    for (const part of parts) emit({ event: "part", ...part });
    emit({ event: "folder", folder: out, bytes });
    print(partTable(parts));
    print(`${out}: ${sizeText(bytes)}`);
  } catch (error) {
    progress.done();
    throw goingOn(error, signal);
  }
}

/** Commas part patterns, but not inside braces: `["{und", "gen}.layers"]` was one. */
function wholePatterns(parts: readonly string[]): string[] {
  return parts.join(",").split(/,(?![^{]*\})/);
}

/** Without slashes at its end, so that `.partial` can follow. */
export function folderName(path: string): string {
  return path.replace(/(?<=[^/])\/+$/, "");
}

/** An interruption with what to do next; other errors as they are. */
export function goingOn(error: unknown, signal: AbortSignal): unknown {
  if (!(signal.aborted && signal.reason instanceof Interrupted)) return error;
  const help = "what was written is kept: the same command goes on from there";
  return new Interrupted(signal.reason.signal, help);
}

function partTable(parts: readonly QuantizedPart[]): string {
  const sum = (of: (part: QuantizedPart) => number) => parts.reduce((n, part) => n + of(part), 0);
  return tableText([
    ["part", "tensors", "packed", "before", "after", "relative error"],
    ...parts.map((p) => [
      p.part,
      String(p.tensors),
      String(p.packed),
      sizeText(p.bytesBefore),
      sizeText(p.bytesAfter),
      p.relativeError === undefined ? "" : `${(100 * p.relativeError).toFixed(2)} %`,
    ]),
    [
      "total",
      String(sum((p) => p.tensors)),
      String(sum((p) => p.packed)),
      sizeText(sum((p) => p.bytesBefore)),
      sizeText(sum((p) => p.bytesAfter)),
      "",
    ],
  ]);
}
