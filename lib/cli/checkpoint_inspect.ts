// `deno task checkpoint inspect DIR`: what a folder holds, from config and headers alone.

import type { Checkpoint } from "../model/checkpoint_folder.ts";
import { surveyCheckpoint } from "../model/checkpoint_folder.ts";
import { type PartSummary, summarize } from "../model/checkpoint_summary.ts";
import type { UniMedVLConfig } from "../model/config.ts";
import { countText, sizeText, tableText } from "./checkpoint_text.ts";
import type { CommandSpec, Context } from "./command.ts";

const FLAGS = {} as const;

const spec = {
  name: "checkpoint inspect",
  purpose: "Show what a checkpoint folder holds: config, parts, parameters, bytes, dtypes.",
  usage: "DIR [flags]",
  flags: FLAGS,
  positionals: { min: 1, max: 1, names: ["DIR"] },
  examples: [
    ["deno task checkpoint inspect DIR", "a table; no weight is read"],
    ["deno task checkpoint inspect DIR --json", "the same as JSON lines"],
  ],
  exitCodes: { 3: "the folder cannot be opened" },
} as const satisfies CommandSpec<typeof FLAGS>;

/** The subcommand `inspect` of `deno task checkpoint`. */
export const inspectCommand = { spec, main: inspect };

async function inspect(context: Context<typeof FLAGS>): Promise<void> {
  const { args: [dir], print, emit, warn, note } = context;
  const { checkpoint, differences } = await surveyCheckpoint(dir);
  checkpoint.close();
  const parts = summarize(checkpoint);
  const model = total(parts.filter(({ part }) => part !== "vae"));
  emit({ event: "config", config: checkpoint.config });
  for (const part of parts) emit({ event: "part", ...part });
  emit({ event: "total", ...model, files: checkpoint.files, surplus: checkpoint.surplus });
  for (const text of configLines(checkpoint.config)) print(text);
  print("");
  print(partTable(parts, model));
  print("");
  print(`files: ${checkpoint.files.join(", ")}`);
  for (const text of notesOf(checkpoint)) {
    emit({ event: "note", text });
    note(`note: ${text}`);
  }
  for (const [kind, list] of Object.entries(differences)) {
    if (list.length === 0) continue;
    emit({ event: "differences", kind, list });
    warn(`${list.length} ${kind}: ${list[0]}${list.length > 1 ? ", …" : ""}`);
  }
}

function total(parts: readonly PartSummary[]) {
  const sum = (of: (part: PartSummary) => number) => parts.reduce((n, part) => n + of(part), 0);
  return {
    tensors: sum((p) => p.tensors),
    parameters: sum((p) => p.parameters),
    bytes: sum((p) => p.bytes),
  };
}

function configLines({ language: l, vision: v, latent, ...rest }: UniMedVLConfig): string[] {
  const latents = latent.kind === "pixels"
    ? `pixels in patches of ${latent.patchSize}`
    : `autoencoder, ${latent.autoencoder.zChannels} channels, ${latent.autoencoder.downsample} ` +
      `pixels a latent, ${rest.latentPatchSize} × ${rest.latentPatchSize} latents a token`;
  return [
    `decoder        ${l.numHiddenLayers} layers × 2 experts, width ${l.hiddenSize}, ` +
    `${l.numAttentionHeads} heads (${l.numKeyValueHeads} for keys), ` +
    `feed-forward ${l.intermediateSize}, ${l.vocabSize} tokens, θ ${l.ropeTheta}`,
    `image encoder  ${v.numHiddenLayers} layers, width ${v.hiddenSize}, ` +
    `${v.numAttentionHeads} heads, feed-forward ${v.intermediateSize}, ` +
    `patches of ${v.patchSize}, at most ${rest.vitMaxNumPatchPerSide} a side`,
    `latents        ${latents}, at most ${rest.maxLatentSize} tokens a side`,
  ];
}

function partTable(parts: readonly PartSummary[], model: ReturnType<typeof total>): string {
  const dtypes = (part: PartSummary) =>
    Object.entries(part.dtypes).map(([dtype, n]) => `${dtype} × ${n}`).join(", ");
  const row = (p: PartSummary) => [
    p.part,
    countText(p.tensors),
    countText(p.parameters),
    sizeText(p.bytes),
    dtypes(p),
  ];
  const vae = parts.find(({ part }) => part === "vae");
  return tableText([
    ["part", "tensors", "parameters", "size", "stored as"],
    ...parts.filter((part) => part !== vae).map(row),
    ["total", countText(model.tensors), countText(model.parameters), sizeText(model.bytes), ""],
    ...(vae ? [row({ ...vae, part: "autoencoder" })] : []),
  ]);
}

function notesOf(checkpoint: Checkpoint): string[] {
  const { tensors, surplus, notes } = checkpoint;
  const computed = [...tensors.values()].filter(({ file }) => !file).map(({ name }) => name);
  return [
    ...notes,
    ...(computed.length > 0 ? [`computed, as the files lack them: ${computed.join(", ")}`] : []),
    ...(surplus.length > 0
      ? [`${surplus.length} tensors are none of the model's: ${surplus.slice(0, 8).join(", ")}`]
      : []),
  ];
}
