// `deno task checkpoint merge DIR ADAPTER --out DIR2`.

import { UsageError } from "../errors.ts";
import { mergeLora, type MergeReport } from "../model/lora_merge.ts";
import { folderName, goingOn } from "./checkpoint_quantize.ts";
import { ByteProgress, freeBytes, sizeText, tableText } from "./checkpoint_text.ts";
import type { CommandSpec, Context } from "./command.ts";
import type { Flags } from "./flags.ts";

const DTYPES = { f32: "F32", f16: "F16", bf16: "BF16" } as const;

const FLAGS = {
  out: { type: "string", unit: "DIR2", help: "the folder to write; it must not exist" },
  dtype: {
    type: "string",
    choices: ["f32", "f16", "bf16"],
    help: "of the changed matrices (default: as in DIR; f16 where DIR packs them)",
  },
  shard: { type: "bytes", default: "4GB", help: "of a file, about" },
  force: { type: "boolean", help: "remove an unfinished DIR2.partial that cannot be gone on with" },
} as const satisfies Flags;

const spec = {
  name: "checkpoint merge",
  purpose:
    "Write a checkpoint folder whose weights are those of DIR with a LoRA adapter added. DIR is only read.",
  usage: "DIR ADAPTER --out DIR2 [flags]",
  flags: FLAGS,
  positionals: { min: 2, max: 2, names: ["DIR", "ADAPTER"] },
  examples: [
    [
      "deno task checkpoint merge DIR adapter.safetensors --out DIR2",
      "DIR2 answers as DIR does with --lora adapter.safetensors",
    ],
    [
      "deno task checkpoint merge DIR adapter.safetensors --out DIR2 --dtype f32",
      "without rounding the sums",
    ],
  ],
  exitCodes: {
    3: "folder or adapter cannot be opened, or do not belong together",
    4: "too little space, or the disk cannot be written to",
    6: "another process is writing DIR2",
  },
} as const satisfies CommandSpec<typeof FLAGS>;

/** The subcommand `merge` of `deno task checkpoint`. A run that was killed goes on where it was. */
export const mergeCommand = { spec, main: merge };

async function merge(context: Context<typeof FLAGS>): Promise<void> {
  const { args: [dir, adapter], flags, print, emit, note, signal } = context;
  const { out, dtype, shard, force } = flags;
  if (out === undefined) {
    throw new UsageError(`Cannot merge ${adapter} into ${dir}: --out is missing`, {
      help: `usage: deno task ${spec.name} ${spec.usage}`,
    });
  }
  const progress = new ByteProgress(context, "merge");
  let told = false, skipped = 0;
  try {
    const { layers, kept, bytes } = await mergeLora(dir, adapter, folderName(out), {
      ...(dtype ? { dtype: DTYPES[dtype] } : {}),
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
    for (const layer of layers) emit({ event: "layer", ...layer });
    emit({ event: "folder", folder: out, kept, bytes });
    print(layerTable(layers));
    print(`${kept} other tensors as they were`);
    print(`${out}: ${sizeText(bytes)}`);
  } catch (error) {
    progress.done();
    throw goingOn(error, signal);
  }
}

/** Layers of one kind and storage in one line: a large model has hundreds. */
function layerTable(layers: MergeReport["layers"]): string {
  const kinds = Map.groupBy(
    layers,
    ({ name, from, to }) => `${name.replace(/\.\d+\./, ".*.")} ${from} ${to}`,
  );
  return tableText([
    ["layers", "matrices", "were", "are", "largest change"],
    ...[...kinds].map(([kind, members]) => {
      const changes = members.flatMap(({ change }) => change ?? []);
      const [name, from, to] = kind.split(" ");
      const most = changes.length > 0 ? `${(100 * Math.max(...changes)).toFixed(2)} %` : "";
      return [name, String(members.length), from, to, most];
    }),
  ]);
}
