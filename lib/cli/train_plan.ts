// What a command line asks to be trained: settings from their layers, and the folder of the run.

import { UsageError } from "../errors.ts";
import { runFolder } from "../study/run_folder.ts";
import { checkTrainConfig, type Finding } from "../train/config/check.ts";
import {
  parseConfigFile,
  readConfigFile,
  type ResolvedTrainConfig,
  resolveTrainConfig,
} from "../train/config/resolve.ts";
import type { TrainFlags } from "./train_flags.ts";

/** A training to be run. */
export interface TrainPlan {
  settings: ResolvedTrainConfig;
  run: string;
  flags: TrainFlags;
  /** Doubts about the settings. */
  findings: Finding[];
}

/** Arm of a run that is no part of a study. */
export const ARM = "train";

/**
 * Resolves and checks the settings.
 *
 * @throws {UsageError} If nothing says what to train, or the settings are wrong
 */
export async function planOf(flags: TrainFlags): Promise<TrainPlan> {
  if (flags.config === undefined && flags.preset === undefined) {
    throw new UsageError("Cannot train: neither --config nor --preset says what", {
      help: "deno task train --config experiments/configs/tiny-curriculum.json",
    });
  }
  const settings = resolveTrainConfig({
    ...(flags.preset === undefined ? {} : { preset: flags.preset }),
    ...(flags.config === undefined ? {} : { file: await configFile(flags.config) }),
    ...(flags.set === undefined ? {} : { set: wholeValues(flags.set) }),
  });
  const { name, seed } = settings.values;
  const run = flags.run?.replace(/\/+$/, "") ?? runFolder("runs", name, ARM, seed);
  if (!flags.resume && (flags.step !== undefined || flags.allowConfigChange)) {
    const flag = flags.step !== undefined ? "--step" : "--allow-config-change";
    throw new UsageError(`Cannot use ${flag} without --resume`, {
      help: "add --resume, or leave it out to start a new run",
    });
  }
  return { settings, run, flags, findings: checkTrainConfig(settings.values) };
}

/** Flags of the form `field=value` whose lists were cut at their commas: `a=1,2` came as `a=1` and `2`. */
export function wholeValues(parts: readonly string[]): string[] {
  const whole: string[] = [];
  for (const part of parts) {
    if (/^[\w-]+(\.[\w-]+)*=/.test(part) || whole.length === 0) whole.push(part);
    else whole[whole.length - 1] += `,${part}`;
  }
  return whole;
}

async function configFile(path: string) {
  if (path !== "-") return readConfigFile(path);
  return parseConfigFile(await new Response(Deno.stdin.readable).text(), "stdin");
}
