// How two settings differ, value by value. Lists of records that have names (stages, sources) are compared by name,
// so that a stage more does not make all later ones look changed.

import type { Json } from "./config.ts";

/** One value that differs; undefined where a side has none. */
export interface ConfigDifference {
  /** Dotted; items of lists of records by their name, or by number. */
  path: string;
  before: Json | undefined;
  after: Json | undefined;
}

/** The values that differ, in the order of `before`, then those that only `after` has. */
export function configDifferences(before: Json, after: Json): ConfigDifference[] {
  const [a, b] = [flattenDeep(before, { names: true }), flattenDeep(after, { names: true })];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .filter((path) => JSON.stringify(a[path]) !== JSON.stringify(b[path]))
    .map((path) => ({ path, before: a[path], after: b[path] }));
}

/**
 * Dotted path → every value; unlike `flatten` of config.ts it goes into lists of records.
 *
 * @param options `names`: items by their name where all have one and no two the same; default by number
 */
export function flattenDeep(
  value: Json,
  options: { names?: boolean } = {},
  above: readonly string[] = [],
): Record<string, Json> {
  const inner = entriesOf(value, options.names ?? false);
  if (inner === null) return { [above.join(".")]: value };
  const all: Record<string, Json> = Object.create(null);
  for (const [key, item] of inner) Object.assign(all, flattenDeep(item, options, [...above, key]));
  return all;
}

/** What a value holds by key; null if it is a value of its own. */
function entriesOf(value: Json, byName: boolean): [string, Json][] | null {
  if (typeof value !== "object" || value === null) return null;
  if (!Array.isArray(value)) {
    const entries = Object.entries(value);
    return entries.length === 0 ? null : entries;
  }
  if (!value.some((item) => typeof item === "object" && item !== null)) return null;
  const names = value.map((item) =>
    typeof item === "object" && item !== null && !Array.isArray(item) ? item.name : undefined
  );
  const named = byName && names.every((name) => typeof name === "string") &&
    new Set(names).size === names.length;
  return value.map((item, i) => [named ? String(names[i]) : String(i), item]);
}
