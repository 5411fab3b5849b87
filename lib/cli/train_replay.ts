// `deno task train --replay FILE`: what was wrong with the batch that stopped a run.

import { openDevice } from "../gpu/device.ts";
import { examine, type Measured } from "../session/examine.ts";
import { tableText } from "../show/notebook.ts";
import type { Context } from "./command.ts";
import type { trainFlags } from "./train_flags.ts";

/** Values that are listed of each kind. */
const LISTED = 12;

/** Runs the batch again and prints where numbers stop being finite. */
export async function replayBatch(
  path: string,
  context: Context<typeof trainFlags>,
): Promise<void> {
  const { flags, print, emit, note } = context;
  const gpu = await openDevice({ adapter: flags.adapter, budgetBytes: flags.budget });
  try {
    note(`adapter: ${gpu.adapter.name}${gpu.adapter.software ? " (software)" : ""}`);
    const { replay, text, flow, sites, gradients, weights } = await examine(gpu, path);
    const { facts } = replay;
    emit({ event: "replay", facts, text, flow, sites, gradients, weights });
    print(`step ${facts.step} of ${facts.run}, stage ${facts.stage}: ${facts.reason}`);
    print(`weights: ${facts.checkpoint}`);
    print(`samples: ${facts.samples.join("; ")}`);
    print(`losses now: text ${text ?? "none"}, flow ${flow ?? "none"}`);
    const bad = sites.findIndex(({ finite }) => !finite);
    if (weights.length > 0) print(list("weights that are not finite", weights));
    if (bad < 0) print("every value of the forward pass is finite");
    else {
      const around = sites.slice(Math.max(0, bad - 3), bad + 3);
      print(list("first value that is not finite, with those around it", around));
    }
    const lost = gradients.filter(({ finite }) => !finite);
    print(
      lost.length === 0
        ? list("largest gradients", gradients.toSorted((a, b) => b.norm - a.norm))
        : list("gradients that are not finite", lost),
    );
  } finally {
    gpu.close();
  }
}

function list(title: string, values: readonly Measured[]): string {
  const rows = values.slice(0, LISTED).map(({ name, norm, finite }) => ({
    name,
    norm: !finite ? "not finite" : Number.isFinite(norm) ? norm.toPrecision(4) : "above 1.8e19",
  }));
  const more = values.length > LISTED ? `\n… and ${values.length - LISTED} more` : "";
  return `\n${title}\n${tableText(rows)}${more}`;
}
