// Which parts of a model learn, and from which loss: counted by one real backward pass of each loss on a batch, so that
// a freeze or a cut route that is not what was meant shows before a run, not after it.

import { backward } from "../autograd.ts";
import { prepareBatch } from "../model/batch.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import type { Parameters } from "../nn/parameters.ts";
import { Tensor, tidy } from "../tensor.ts";
import type { Objective } from "./objective.ts";

/** The batch that a loss is taken from, and the routes open to it. */
export type Probe = Pick<Objective, "inputs" | "blocked" | "checkpoint">;

/** One group of parameters; all counts are of scalars. */
export interface TrainabilityRow {
  group: string;
  parameters: number;
  /** Of these, those not frozen. */
  trainable: number;
  /** Those that a gradient of the text loss arrives at, be it zeros; absent without a probe. */
  text?: number;
  /** The same for the flow loss. */
  flow?: number;
}

/** Groups in the order in which values pass them; the first prefix that fits decides. */
const GROUPS: [group: string, prefixes: string[]][] = [
  ["adapters (LoRA)", ["lora."]],
  ["position tables", ["connector.position", "latent.position"]],
  ["token embedding", ["text.embed."]],
  ["image encoder", ["vit."]],
  ["connector", ["connector."]],
  ["latent input", ["latent.in.", "latent.time."]],
  ["und expert", ["und."]],
  ["gen expert", ["gen."]],
  ["text head", ["text.head."]],
  ["flow head", ["latent.out."]],
  ["other", [""]],
];
const AUTOENCODER = "autoencoder";

/**
 * A row for each group of parameters that the model has. What counts as received is what `backward` gives from the loss
 * alone, on the batch at hand: frozen parameters receive nothing, and neither do parts that the batch does not use. A
 * gradient of zeros counts: behind a fresh flow head, which is 0, all are.
 *
 * @param probes a batch with text to predict, one with latents to denoise, or one batch for both
 * @param autoencoder its parameters, where the model has one: no loss of the model reaches it
 * @throws {TypeError} If a probe's batch has not the loss it is for
 */
export function trainabilityTable(
  model: UniMedVL,
  probes: { text?: Probe; flow?: Probe },
  autoencoder?: Parameters,
): TrainabilityRow[] {
  const reached = {
    text: probes.text && reachedBy(model, "text", probes.text),
    flow: probes.flow && reachedBy(model, "flow", probes.flow),
  };
  const rows = new Map<string, TrainabilityRow>();
  const count = (group: string, tensor: Tensor) => {
    const row = rows.get(group) ?? { group, parameters: 0, trainable: 0 };
    rows.set(group, row);
    row.parameters += tensor.size;
    if (tensor.requiresGrad) row.trainable += tensor.size;
    for (const loss of ["text", "flow"] as const) {
      const tensors = reached[loss];
      if (tensors) row[loss] = (row[loss] ?? 0) + (tensors.has(tensor) ? tensor.size : 0);
    }
  };
  for (const [name, tensor] of model.parameters.entries()) count(groupOf(name), tensor);
  for (const [, tensor] of autoencoder?.entries() ?? []) count(AUTOENCODER, tensor);
  return [...GROUPS.map(([group]) => group), AUTOENCODER].flatMap((group) => rows.get(group) ?? []);
}

/** The rows as lines of text under a head, numbers aligned, with a line of sums. */
export function trainabilityText(rows: readonly TrainabilityRow[]): string {
  const columns = ["parameters", "trainable", "text", "flow"] as const;
  const heads = ["parameters", "trainable", "CE gradient", "flow gradient"];
  const sums: TrainabilityRow = { group: "all", parameters: 0, trainable: 0 };
  for (const row of rows) {
    for (const column of columns) {
      if (row[column] !== undefined) sums[column] = (sums[column] ?? 0) + row[column];
    }
  }
  const share = (row: TrainabilityRow, column: (typeof columns)[number]) => {
    const value = row[column];
    if (value === undefined) return "not probed";
    if (column === "parameters") return value.toLocaleString("en");
    if (value === 0) return "none";
    return value === row.parameters ? "all" : value.toLocaleString("en");
  };
  const cells = [
    ["group", ...heads],
    ...[...rows, sums].map((row) => [
      row.group,
      ...columns.map((column) => share(row, column)),
    ]),
  ];
  const widths = cells[0].map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells.map((line) =>
    line.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ")
  ).join("\n");
}

function groupOf(name: string): string {
  return GROUPS.find(([, prefixes]) => prefixes.some((prefix) => name.startsWith(prefix)))![0];
}

/** Parameters at which a gradient of one loss arrives. */
function reachedBy(model: UniMedVL, loss: "text" | "flow", probe: Probe): Set<Tensor> {
  return tidy(() => {
    const { blocked, checkpoint } = probe;
    const out = model.forward(prepareBatch(model.gpu, model.config, probe.inputs), {
      ...(blocked ? { blocked } : {}),
      ...(checkpoint ? { checkpoint } : {}),
    });
    const losses = loss === "text" ? out.textLoss : out.flowLoss;
    if (!losses) {
      throw new TypeError(
        `Cannot probe the ${loss} loss: its batch has no ${
          loss === "text" ? "text to predict" : "latents to denoise"
        }`,
      );
    }
    const ones = new Float32Array(losses.size).fill(1);
    const gradients = backward(losses, { seeds: [Tensor.from(model.gpu, ones, losses.shape)] });
    return new Set(gradients.keys());
  });
}
