// The names that patterns of a config stand for: parameters (`freeze`) and linear layers (`lora.targets`).

import type { UniMedVLConfig } from "../../model/config.ts";
import { namePattern } from "../../model/name_pattern.ts";
import { parameterShapes } from "../../model/shapes.ts";
import { FROZEN } from "../../model/weights.ts";

/** True for names that begin with what the pattern matches; a trailing `.*` stands for everything below. */
export function matches(pattern: string): (name: string) => boolean {
  return namePattern(pattern);
}

/** Names of the parameters that can train. */
export function trainableNames(model: UniMedVLConfig): string[] {
  return [...parameterShapes(model).keys()].filter((name) => !FROZEN.has(name));
}

/** Names of the linear layers: those whose weight is a matrix and no table. */
export function linearNames(model: UniMedVLConfig): string[] {
  const tables = /(^text\.embed|\.position)\.weight$/;
  return [...parameterShapes(model)]
    .filter(([name, shape]) => name.endsWith(".weight") && shape.length === 2 && !tables.test(name))
    .map(([name]) => name.replace(/\.weight$/, ""));
}
