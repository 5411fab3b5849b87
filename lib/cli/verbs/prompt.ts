// Prompts by name on the command line: one that is chosen, and the list of them.

import { UsageError } from "../../errors.ts";
import {
  MODALITIES,
  type Modality,
  presetPrompt,
  type PromptPreset,
  PROMPTS,
} from "../../infer/prompts.ts";
import type { Context } from "../command.ts";
import type { Flags } from "../flags.ts";

/** Whether a preset has a place for something; false for names that there are not. */
export function presetTakes(name: string, place: "text" | "modality"): boolean {
  return Object.hasOwn(PROMPTS, name) && PROMPTS[name].prompt.includes(`{${place}}`);
}

/** The names of a verb's presets. */
export function presetsOf(verb: PromptPreset["verb"]): string[] {
  return Object.keys(PROMPTS).filter((name) => PROMPTS[name].verb === verb);
}

/**
 * The prompt of a preset, or the text itself where no preset was named.
 *
 * @throws {UsageError} If there is no such preset, it lacks its text, or it has no place for what was given
 */
export function promptOf(
  verb: PromptPreset["verb"],
  preset: string | undefined,
  fill: { text?: string | undefined; modality?: Modality | undefined },
): string {
  const { text, modality } = fill;
  if (preset === undefined) {
    if (modality === undefined) return text ?? "";
    throw new UsageError(`Cannot ${verb} with --modality alone: it is named in presets`, {
      help: `add --preset ${presetsOf(verb).join(" or ")}`,
    });
  }
  const prompt = presetPrompt(verb, preset, {
    ...(text === undefined ? {} : { text }),
    ...(modality === undefined ? {} : { modality }),
  });
  for (const [place, given] of [["text", text], ["modality", modality]] as const) {
    if (given === undefined || presetTakes(preset, place)) continue;
    throw new UsageError(
      `Cannot ${verb} with preset ${preset} and the ${place} ${
        JSON.stringify(given)
      }: it has no place for it`,
      { help: `leave out one of them; the preset reads: ${PROMPTS[preset].prompt}` },
    );
  }
  return prompt;
}

/** Prints a verb's presets and the modalities. */
export function listPresets<T extends Flags>(
  verb: PromptPreset["verb"],
  { print, emit }: Pick<Context<T>, "print" | "emit">,
): void {
  print("presets");
  for (const name of presetsOf(verb)) {
    const { purpose, prompt } = PROMPTS[name];
    print(`  ${name.padEnd(18)} ${purpose}\n  ${"".padEnd(18)} ${JSON.stringify(prompt)}`);
    emit({ event: "preset", verb, name, purpose, prompt });
  }
  print("\nmodalities");
  for (const [name, words] of Object.entries(MODALITIES)) {
    print(`  ${name.padEnd(18)} ${words}`);
    emit({ event: "modality", name, words });
  }
}
