// `--set a.b=c` as a layer of settings: the text is read as what the field holds.

import { parseStrictJson } from "../../data/strict_json.ts";
import { UsageError } from "../../errors.ts";
import { plainJson } from "./config_file.ts";
import { branches, fieldsAt, unknownFieldHelp, wanted } from "./fields.ts";
import type { ConfigLayer, Json } from "./layers.ts";

/**
 * The layer of one `--set path=value`. Lists are JSON or comma-separated; records are JSON.
 *
 * @throws {UsageError} If it has no `=`, names an unknown field, or holds JSON that cannot be read
 */
export function setLayer(flag: string): ConfigLayer {
  const equals = flag.indexOf("=");
  if (equals < 1) {
    throw new UsageError(`Cannot use --set ${flag}: it is not of the form field=value`, {
      help: "Such as --set stages.foundation.steps=100 or --set seed=1",
    });
  }
  const path = flag.slice(0, equals).split(".");
  const schemas = fieldsAt(path);
  if (schemas.length === 0) {
    const known = path.findIndex((_, i) => fieldsAt(path.slice(0, i + 1)).length === 0);
    const wrong = path.slice(0, known + 1);
    throw new UsageError(`Cannot use --set: unknown field ${wrong.join(".")}`, {
      help: unknownFieldHelp(wrong),
    });
  }
  const text = flag.slice(equals + 1);
  const types = new Set(schemas.flatMap(branches).map((schema) => schema.type));
  const value = valueOf(text, types, path.join("."));
  return {
    origin: "--set",
    values: path.reduceRight<Json>((inner, key) => ({ [key]: inner }), value),
  };
}

/** The value a text stands for; text that fits nothing stays text, for the check of kinds to name. */
function valueOf(text: string, types: ReadonlySet<string | undefined>, path: string): Json {
  if (text === "null" && types.has("null")) return null;
  if (types.has("string")) return text;
  const structured = types.has("object") || (types.has("array") && text.startsWith("["));
  if (types.has("array") && !structured) {
    return text === "" ? [] : text.split(",").map((t) => t.trim());
  }
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
  if (number && !structured) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  if (!structured) return text;
  try {
    return plainJson(parseStrictJson(text));
  } catch (cause) {
    throw new UsageError(
      `Cannot use ${path} from --set: ${text} is not JSON: ${(cause as Error).message}`,
      {
        cause,
        help: `Give ${wanted(fieldsAt(path.split(".")))}`,
      },
    );
  }
}
