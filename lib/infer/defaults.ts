// A model folder's own defaults for drawing: small models are trained with other time grids than the published
// one, and without the dropout of conditions that guidance rests on.

import { nearestName } from "../data/edit_distance.ts";
import { fileReason } from "../data/jsonl.ts";
import { InputError, UsageError } from "../errors.ts";
import { fullGuidance, type Guidance } from "./guidance.ts";

/** Options of drawing that a folder may give defaults for. */
export interface DrawDefaults extends Guidance {
  steps?: number;
  shift?: number;
}

/** The file in a model folder. */
export const DEFAULTS_FILE = "defaults.json";

const NUMBERS = ["steps", "shift", "textGuidance", "imageGuidance", "renormMin"] as const;
const FIELDS = [...NUMBERS, "interval", "renorm"];

/**
 * Reads `defaults.json`, `{"draw": {"steps": 20, "shift": 4, "textGuidance": 1}}`; nothing if there is none.
 *
 * @throws {InputError} Naming the file and the field that is wrong
 */
export async function readDefaults(dir: string): Promise<DrawDefaults> {
  const path = `${dir}/${DEFAULTS_FILE}`;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return {};
    throw new InputError(`Cannot read ${path}: ${fileReason(cause)}`, { cause });
  }
  const wrong = (what: string, help: string, cause?: unknown) =>
    new InputError(`Cannot read ${path}: ${what}`, { help, ...(cause ? { cause } : {}) });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw wrong(`not JSON (${(cause as Error).message})`, "repair the file, or remove it", cause);
  }
  const draw = (value as { draw?: unknown } | null)?.draw;
  if (typeof draw !== "object" || draw === null) {
    throw wrong("it has no object draw", 'the file looks like {"draw": {"steps": 20}}');
  }
  for (const [name, given] of Object.entries(draw)) {
    if (!FIELDS.includes(name)) {
      const near = nearestName(name, FIELDS);
      throw wrong(
        `unknown field draw.${name}`,
        near ? `did you mean ${near}?` : `there are ${FIELDS.join(", ")}`,
      );
    }
    if ((NUMBERS as readonly string[]).includes(name) && typeof given !== "number") {
      throw wrong(`draw.${name} is ${JSON.stringify(given)}`, `draw.${name} must be a number`);
    }
  }
  try {
    fullGuidance(draw as Guidance);
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    throw wrong(cause.message, cause.help ?? "repair the file, or remove it", cause);
  }
  return draw;
}
