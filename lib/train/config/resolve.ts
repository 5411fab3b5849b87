// A training config from its layers: defaults < preset < file < `--set a.b=c`. Whatever is misspelt or of a wrong
// kind is refused with the place it came from; whether the values make sense together is for check.ts.

import { nearestName } from "../../data/edit_distance.ts";
import { UsageError } from "../../errors.ts";
import type { ConfigFile } from "./config_file.ts";
import { DEFAULTS } from "./defaults.ts";
import { type ConfigLayer, type Json, originsOf, over, traced, valuesOf } from "./layers.ts";
import { originOf, type PresetName, TRAIN_PRESETS } from "./presets.ts";
import { type Issue, originAt, refusal } from "./refusal.ts";
import { TRAIN_CONFIG, type TrainConfig } from "./schema.ts";
import { setLayer } from "./set_flag.ts";

/** A complete config and where each value came from. */
export interface ResolvedTrainConfig {
  values: TrainConfig;
  /** Dotted path of every value (`stages.0.steps`) → `default`, `preset tiny (ours)`, a file's path or `--set`. */
  origins: Record<string, string>;
}

/** Where settings come from. */
export interface ConfigInputs {
  /** Name of a preset; instead of the one that the file extends. */
  preset?: string;
  file?: ConfigFile;
  /** Each `path=value`. */
  set?: readonly string[];
}

/**
 * Resolves a config from its layers.
 *
 * @throws {UsageError} On an unknown preset or field (with the nearest name), a value of the wrong kind, or a
 *   required field that nothing sets
 */
export function resolveTrainConfig(inputs: ConfigInputs): ResolvedTrainConfig {
  const layers: ConfigLayer[] = [];
  const preset = inputs.preset ?? inputs.file?.extends ?? undefined;
  if (preset !== undefined) layers.push(presetLayer(preset, inputs));
  if (inputs.file) layers.push(inputs.file);
  for (const flag of inputs.set ?? []) layers.push(setLayer(flag));
  let tree = traced(DEFAULTS as unknown as Json, "default");
  for (const { values, origin } of layers) tree = over(tree, values, origin);
  const values = valuesOf(tree);
  const origins = originsOf(tree);
  const result = TRAIN_CONFIG.safeParse(values);
  if (!result.success) {
    throw refusal(result.error.issues as Issue[], values, (path) => originAt(origins, path));
  }
  return { values: result.data, origins };
}

function presetLayer(name: string, inputs: ConfigInputs): ConfigLayer {
  if (!Object.hasOwn(TRAIN_PRESETS, name)) {
    const names = Object.keys(TRAIN_PRESETS);
    const near = nearestName(name, names);
    const source = inputs.preset === undefined ? `extends in ${inputs.file!.origin}` : "--preset";
    throw new UsageError(
      `Cannot use the preset ${JSON.stringify(name)} from ${source}: it is not known`,
      {
        help: near ? `The nearest name is ${near}` : `The presets are ${names.join(", ")}`,
      },
    );
  }
  const known = name as PresetName;
  return {
    origin: (path) => `preset ${known} (${originOf(known, path)})`,
    values: TRAIN_PRESETS[known].values as unknown as Json,
  };
}

export { type ConfigFile, parseConfigFile, readConfigFile } from "./config_file.ts";
