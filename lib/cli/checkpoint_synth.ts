// `deno task checkpoint synth --config unimedvl-14b --out DIR`: a folder of real shapes with random weights.

import { UsageError } from "../errors.ts";
import { PRESETS } from "../model/config.ts";
import { synthCheckpoint } from "../model/synth.ts";
import { folderName, goingOn } from "./checkpoint_quantize.ts";
import { ByteProgress, freeBytes, sizeText } from "./checkpoint_text.ts";
import type { CommandSpec, Context } from "./command.ts";
import type { Flags } from "./flags.ts";

const FLAGS = {
  config: { type: "string", choices: ["unimedvl-14b", "tiny"], help: "whose shapes" },
  out: { type: "string", unit: "DIR", help: "the folder to write; it must not exist" },
  layers: { type: "integer", min: 1, unit: "layers", help: "of the decoder; default the config's" },
  dtype: {
    type: "string",
    default: "bf16",
    choices: ["bf16", "f16", "f32"],
    help: "of the weights",
  },
  to: { type: "string", choices: ["int8", "int4"], help: "write the quantized folder directly" },
  seed: { type: "integer", default: 0, min: 0, help: "of the weights" },
  tokenizer: {
    type: "string",
    unit: "DIR",
    help: "folder to copy a tokenizer from, which ask and others need",
  },
  shard: { type: "bytes", default: "4GB", help: "of a file, about" },
  force: { type: "boolean", help: "remove an unfinished DIR.partial that cannot be gone on with" },
} as const satisfies Flags;

const spec = {
  name: "checkpoint synth",
  purpose: "Write a checkpoint folder of a model's real shapes with random weights, for tests. " +
    "Four million normal numbers are drawn and used again from other starts.",
  usage: "--config unimedvl-14b|tiny --out DIR [flags]",
  flags: FLAGS,
  examples: [
    ["deno task checkpoint synth --config unimedvl-14b --to int4 --out DIR", "10 GB"],
    ["deno task checkpoint synth --config unimedvl-14b --layers 3 --out DIR", "real widths, 6 GB"],
  ],
  exitCodes: {
    4: "too little space, or the disk cannot be written to",
    6: "another process is writing DIR",
  },
} as const satisfies CommandSpec<typeof FLAGS>;

/** The subcommand `synth` of `deno task checkpoint`. A run that was killed goes on where it was. */
export const synthCommand = { spec, main: synth };

async function synth(context: Context<typeof FLAGS>): Promise<void> {
  const { flags, given, print, emit, signal } = context;
  const { config: name, out } = flags;
  if (name === undefined || out === undefined) {
    const missing = name === undefined ? "config" : "out";
    throw new UsageError(`Cannot write a folder: --${missing} is missing`, {
      help: `usage: deno task ${spec.name} ${spec.usage}`,
    });
  }
  if (flags.to !== undefined && given.has("dtype") && flags.dtype !== "bf16") {
    throw new UsageError(`Cannot use --dtype ${flags.dtype} with --to ${flags.to}`, {
      help: "a quantized folder has bf16 beside the packed matrices; leave --dtype out",
    });
  }
  const config = structuredClone(PRESETS[name]);
  if (flags.layers !== undefined) config.language.numHiddenLayers = flags.layers;
  const progress = new ByteProgress(context, `synth ${name}`);
  let first: number | undefined;
  try {
    const bytes = await synthCheckpoint(config, folderName(out), {
      seed: flags.seed,
      dtype: ({ bf16: "BF16", f16: "F16", f32: "F32" } as const)[flags.dtype],
      to: flags.to,
      tokenizer: flags.tokenizer,
      shardBytes: flags.shard,
      force: flags.force,
      freeBytes,
      signal,
      onProgress({ doneBytes, totalBytes, tensor, resumed }) {
        first ??= resumed > 0 ? doneBytes : 0;
        progress.update(doneBytes, totalBytes, tensor, first);
      },
    });
    progress.done();
    emit({ event: "folder", folder: out, bytes });
    print(`${out}: ${sizeText(bytes)}`);
  } catch (error) {
    progress.done();
    throw goingOn(error, signal);
  }
}
