// Layers of settings over each other, with the origin of every value. Records merge field by field; a list of
// plain values replaces the one below. Stages and sources are known by name: a list says which there are and in
// which order, and one that has the name of a stage below begins as that stage.

import { nearestName } from "../../data/edit_distance.ts";
import { UsageError } from "../../errors.ts";
import {
  LORA_DEFAULTS,
  SOURCE_DEFAULTS,
  STAGE_DEFAULTS,
  TOKEN_DEFAULTS,
  VALIDATION_DEFAULTS,
} from "./defaults.ts";

/** Anything JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** One layer of settings. */
export interface ConfigLayer {
  /** Where it comes from, as printed; a function tells it for each dotted path. */
  origin: string | ((path: string) => string);
  /** Nested like the config, holding only what it changes. */
  values: Json;
}

/** Settings and where each came from. */
export type Traced =
  | { kind: "leaf"; value: Json; origin: string }
  | { kind: "record"; fields: Map<string, Traced> }
  | { kind: "list"; items: Traced[]; origin: string };

/** Lists whose items are records with defaults, by the path of the list. */
const LISTS: Record<string, { what: string; defaults: Json }> = {
  "stages": { what: "stage", defaults: STAGE_DEFAULTS as unknown as Json },
  "data.sources": { what: "source", defaults: SOURCE_DEFAULTS as unknown as Json },
  "data.validation": { what: "source", defaults: VALIDATION_DEFAULTS as unknown as Json },
};

const DEFAULT = "default";
const FROM_PATH = "from its path";

/** Dotted path below another. */
const below = (path: string, key: string | number) => path === "" ? String(key) : `${path}.${key}`;

/** Values as a layer of their own. */
export function traced(values: Json, layer: ConfigLayer["origin"], path = ""): Traced {
  return over(undefined, values, layer, path);
}

/**
 * `change` laid over `base`.
 *
 * @param origin of what `change` holds
 * @param path of both, dotted
 * @throws {UsageError} If it names a stage or source that is not there
 */
export function over(
  base: Traced | undefined,
  change: Json,
  origin: ConfigLayer["origin"],
  path = "",
): Traced {
  const from = typeof origin === "string" ? origin : origin(path);
  if (Object.hasOwn(LISTS, path)) {
    const old = base?.kind === "list" ? base : { kind: "list" as const, items: [], origin: from };
    if (Array.isArray(change)) return relisted(old, change, origin, path);
    if (isRecord(change)) return changedItems(old, change, origin, path);
  }
  if (!isRecord(change)) return { kind: "leaf", value: structuredClone(change), origin: from };
  const fields = new Map(startOf(base, change, path));
  for (const [key, value] of Object.entries(change)) {
    fields.set(key, over(fields.get(key), value, origin, below(path, key)));
  }
  return { kind: "record", fields };
}

/** The fields that a record begins with before it is changed. */
function startOf(base: Traced | undefined, change: Record<string, Json>, path: string) {
  const old = base?.kind === "record" ? base.fields : undefined;
  const fresh = (defaults: object) =>
    new Map(
      Object.entries(defaults).map((
        [key, value],
      ) => [key, { kind: "leaf", value, origin: DEFAULT } as Traced]),
    );
  if (path === "lora") return old ?? fresh(LORA_DEFAULTS);
  if (path === "batch") {
    if ("samples" in change) return new Map<string, Traced>();
    if (old === undefined || old.has("samples")) return fresh(TOKEN_DEFAULTS);
  }
  return old ?? new Map<string, Traced>();
}

/** A new list: items that have the name of one below begin as that one. */
function relisted(
  old: Traced & { kind: "list" },
  change: Json[],
  origin: ConfigLayer["origin"],
  path: string,
): Traced {
  const items = change.map((item, i) => {
    const at = below(path, i);
    if (!isRecord(item)) return over(undefined, item, origin, at);
    const twin = path === "stages" && item.name !== undefined
      ? old.items.find((candidate) => nameOf(candidate) === item.name)
      : undefined;
    return named(over(twin ?? traced(LISTS[path].defaults, DEFAULT, at), item, origin, at), path);
  });
  return { kind: "list", items, origin: typeof origin === "string" ? origin : origin(path) };
}

/** The list with some items changed, each known by its name or its number from 0; the next number adds a source. */
function changedItems(
  old: Traced & { kind: "list" },
  change: Record<string, Json>,
  origin: ConfigLayer["origin"],
  path: string,
): Traced {
  const items = [...old.items];
  for (const [key, value] of Object.entries(change)) {
    const byName = items.findIndex((item) => nameOf(item) === key);
    const at = byName >= 0 ? byName : /^\d+$/.test(key) ? Number(key) : -1;
    const isNext = at === items.length && path !== "stages";
    if (!(at >= 0 && at < items.length || isNext)) throw noItem(items, key, path);
    const item = items[at] ?? traced(LISTS[path].defaults, DEFAULT, below(path, at));
    items[at] = named(over(item, value, origin, below(path, at)), path);
  }
  return { ...old, items };
}

function noItem(items: Traced[], key: string, path: string): UsageError {
  const { what } = LISTS[path];
  const names = items.map((item, i) => String(nameOf(item) ?? i));
  const near = nearestName(key, names);
  return new UsageError(`Cannot change ${path}.${key}: there is no such ${what}`, {
    help: near !== undefined
      ? `The nearest name is ${path}.${near}`
      : names.length === 0
      ? `There is no ${what} yet: give ${path} as a list first`
      : `The ${what}s are ${names.join(", ")}; also by number from 0`,
  });
}

/** A source without a name gets the last part of its path. */
function named(item: Traced, path: string): Traced {
  if (path === "stages" || item.kind !== "record") return item;
  const given = item.fields.get("name");
  if (given !== undefined && !(given.kind === "leaf" && given.origin === FROM_PATH)) return item;
  const at = item.fields.get("path");
  if (at?.kind !== "leaf" || typeof at.value !== "string") return item;
  const last = at.value.replace(/[\\/]+$/, "").split(/[\\/]/).at(-1) ?? "";
  const value = last.toLowerCase().replace(/\.[a-z]+$/, "").replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "");
  item.fields.set("name", { kind: "leaf", value, origin: FROM_PATH });
  return item;
}

function nameOf(item: Traced): Json | undefined {
  const name = item.kind === "record" ? item.fields.get("name") : undefined;
  return name?.kind === "leaf" ? name.value : undefined;
}

/** The plain values. */
export function valuesOf(node: Traced): Json {
  if (node.kind === "leaf") return structuredClone(node.value);
  if (node.kind === "list") return node.items.map(valuesOf);
  return Object.fromEntries([...node.fields].map(([key, field]) => [key, valuesOf(field)]));
}

/** Dotted path of every value → its origin. */
export function originsOf(node: Traced, path = ""): Record<string, string> {
  if (node.kind === "leaf") return { [path]: node.origin };
  if (node.kind === "list") {
    if (node.items.length === 0) return { [path]: node.origin };
    return Object.assign({}, ...node.items.map((item, i) => originsOf(item, below(path, i))));
  }
  return Object.assign(
    {},
    ...[...node.fields].map(([key, field]) => originsOf(field, below(path, key))),
  );
}

/** True for a JSON object. */
export function isRecord(value: unknown): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
