// From what zod finds wrong with a config to one error that says where the value came from, what it is and what it
// should be.

import { UsageError } from "../../errors.ts";
import { FILE_HELP, shown } from "./config_file.ts";
import { fieldsAt, unknownFieldHelp, wanted } from "./fields.ts";
import { isRecord, type Json } from "./layers.ts";

/** What zod found wrong, as far as it is read here. */
export interface Issue {
  code: string;
  path: PropertyKey[];
  keys?: string[];
  errors?: Issue[][];
}

/** One thing that is wrong. */
interface Fault {
  path: string[];
  message: string;
  help: string;
}

/**
 * The error for all issues: the first in full, the others by their paths.
 *
 * @param from the origin of the value at a dotted path
 */
export function refusal(issues: Issue[], values: Json, from: (path: string) => string): UsageError {
  const faults = issues.flatMap((issue) => faultsOf(issue, values, from));
  const [first, ...more] = faults;
  const rest = more.length === 0
    ? ""
    : `; also wrong: ${more.slice(0, 8).map(named).join(", ")}${
      more.length > 8 ? ` and ${more.length - 8} more` : ""
    }`;
  return new UsageError(`${first.message}${rest}`, { help: first.help });
}

/** A further fault in short: its path, and the nearest name of an unknown one. */
function named({ path, help }: Fault): string {
  const near = /^The nearest name is (\S+)/.exec(help)?.[1];
  return path.join(".") + (near === undefined ? "" : ` (nearest: ${near})`);
}

function faultsOf(issue: Issue, values: Json, from: (path: string) => string): Fault[] {
  const path = issue.path.map(String);
  if (issue.code === "invalid_union" && path.length === 1 && path[0] === "batch") {
    const batch = isRecord(values) ? values.batch : undefined;
    if (isRecord(batch)) {
      const inner = issue.errors![("samples" in batch) ? 0 : 1];
      return inner.flatMap((i) => faultsOf({ ...i, path: ["batch", ...i.path] }, values, from));
    }
  }
  if (issue.code === "unrecognized_keys") {
    return issue.keys!.map((key) => {
      const at = [...path, key];
      const dotted = at.join(".");
      return {
        path: at,
        message: `Cannot use ${from(dotted)}: unknown field ${dotted}`,
        help: path[0] === "batch" && fieldsAt(at).length > 0
          ? "A batch holds a number of samples or a budget of tokens, not both"
          : unknownFieldHelp(at),
      };
    });
  }
  const dotted = path.join(".");
  const value = at(values, path);
  const want = wanted(fieldsAt(path));
  if (value === undefined) {
    return [{
      path,
      message: `Cannot use the config: ${dotted} is missing`,
      help: `Give ${dotted} (${want}), or begin with a preset by "extends" or --preset`,
    }];
  }
  return [{
    path,
    message: `Cannot use ${dotted} from ${from(dotted)}: ${shown(value)} is not ${want}`,
    help: helpOf(path),
  }];
}

/** What the field is for. */
function helpOf(path: readonly string[]): string {
  const description = fieldsAt(path)[0]?.description;
  return description === undefined ? FILE_HELP : `${path.at(-1)}: ${description}`;
}

function at(value: Json | undefined, path: readonly string[]): Json | undefined {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, Json>)[key];
  }
  return value;
}

/** The origin of a path, of what it holds, or of what holds it. */
export function originAt(origins: Record<string, string>, path: string): string {
  if (Object.hasOwn(origins, path)) return origins[path];
  const inside = Object.keys(origins).find((key) => key.startsWith(`${path}.`));
  if (inside !== undefined) return origins[inside];
  const outside = Object.keys(origins).findLast((key) => path.startsWith(`${key}.`));
  return outside !== undefined ? origins[outside] : "the config";
}
