// Named training configs. Each value says where it is from: `paper` (what the authors of UniMedVL printed), `BAGEL`
// (the published training script of the model they began with, its defaults and its recipe for fine-tuning, where
// the paper is silent), or `ours`.

import { finetuneSmall } from "./preset_finetune.ts";
import { published } from "./preset_published.ts";
import { small, tiny } from "./preset_small.ts";
import type { StageConfig, TrainConfig } from "./schema.ts";

/** Where a value of a preset is from. */
export type Provenance = "paper" | "BAGEL" | "ours";

/** A config of which any part may be left out. */
export type PartialConfig =
  & { [K in keyof Omit<TrainConfig, "stages" | "data" | "batch">]?: Deep<TrainConfig[K]> }
  & {
    stages?: Deep<StageConfig>[];
    data?: Deep<TrainConfig["data"]>;
    batch?: TrainConfig["batch"];
  };

type Deep<T> = T extends unknown[] ? Deep<T[number]>[]
  : T extends object ? { [K in keyof T]?: Deep<T[K]> }
  : T;

/** A named config. */
export interface Preset {
  /** One sentence for the list of presets. */
  purpose: string;
  values: PartialConfig;
  /**
   * Patterns of dotted paths (`*` is one segment; what is below counts too) → where values there are from. The
   * first pattern that matches decides; `ours` if none does.
   */
  origins: readonly (readonly [pattern: string, from: Provenance])[];
}

/** The presets by name. */
export const TRAIN_PRESETS = {
  tiny,
  small,
  "unimedvl-14b": published,
  "finetune-small": finetuneSmall,
} as const satisfies Record<string, Preset>;

/** Names of presets. */
export type PresetName = keyof typeof TRAIN_PRESETS;

/** Where a preset's value at a dotted path is from. */
export function originOf(name: PresetName, path: string): Provenance {
  const segments = path.split(".");
  const preset: Preset = TRAIN_PRESETS[name];
  const match = preset.origins.find(([pattern]) =>
    pattern.split(".").every((part, i) => part === "*" || part === segments[i])
  );
  return match?.[1] ?? "ours";
}
