// The fields of the training config as data: their paths, what a value must be, and the field nearest to a
// misspelt name. All from the JSON Schema that zod makes of schema.ts.

import { z } from "zod";
import { nearestName } from "../../data/edit_distance.ts";
import { TRAIN_CONFIG } from "./schema.ts";

/** A node of a JSON Schema, as far as it is read here. */
export interface FieldSchema {
  type?: string;
  description?: string;
  properties?: Record<string, FieldSchema>;
  items?: FieldSchema;
  anyOf?: FieldSchema[];
  enum?: (string | number)[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minItems?: number;
  pattern?: string;
  required?: string[];
  additionalProperties?: boolean;
  default?: unknown;
}

/** The JSON Schema of a complete config. */
export const CONFIG_SCHEMA = z.toJSONSchema(TRAIN_CONFIG) as FieldSchema;

/**
 * The schemas a dotted path may lead to; none if there is no such field. Items of a list go by any name or number.
 *
 * @param schema where the path begins
 */
export function fieldsAt(path: readonly string[], schema = CONFIG_SCHEMA): FieldSchema[] {
  if (path.length === 0) return [schema];
  const [key, ...rest] = path;
  return branches(schema).flatMap((branch) => {
    const next = branch.items ??
      (branch.properties && Object.hasOwn(branch.properties, key)
        ? branch.properties[key]
        : undefined);
    return next ? fieldsAt(rest, next) : [];
  });
}

/** The names of the fields directly below a path. */
export function fieldNames(path: readonly string[]): string[] {
  const names = fieldsAt(path).flatMap(branches).flatMap((s) => Object.keys(s.properties ?? {}));
  return [...new Set(names)];
}

/** Every field with a value of its own, dotted; items of lists as `*`. */
export function fieldPaths(schema = CONFIG_SCHEMA, above: readonly string[] = []): string[] {
  const found = branches(schema).flatMap((branch) => {
    if (branch.items && branches(branch.items).some((s) => s.properties)) {
      return fieldPaths(branch.items, [...above, "*"]);
    }
    if (!branch.properties) return branch.type === "null" ? [] : [above.join(".")];
    return Object.entries(branch.properties).flatMap(([key, s]) => fieldPaths(s, [...above, key]));
  });
  return [...new Set(found)];
}

/** A schema without its alternatives: each of them. */
export function branches(schema: FieldSchema): FieldSchema[] {
  return schema.anyOf ? schema.anyOf.flatMap(branches) : [schema];
}

/** What a value must be: `a whole number of at least 1`. */
export function wanted(schemas: readonly FieldSchema[]): string {
  return [...new Set(schemas.flatMap(branches).map(kindText))].join(" or ");
}

function kindText(s: FieldSchema): string {
  if (s.enum) return oneOf(s.enum.map((value) => JSON.stringify(value)));
  switch (s.type) {
    case "integer":
    case "number":
      return `a ${s.type === "integer" ? "whole number" : "number"}${boundsText(s)}`;
    case "string":
      return s.pattern ? `text that matches ${s.pattern}` : "text";
    case "boolean":
      return "true or false";
    case "array":
      return `a list of ${s.items ? itemsText(s.items) : "values"}`;
    case "null":
      return "null";
    default: {
      const names = Object.keys(s.properties ?? {});
      return `a record with ${names.join(", ")}`;
    }
  }
}

const itemsText = (s: FieldSchema) =>
  s.properties ? "records" : s.type === "string" ? "texts" : "values";

function boundsText(s: FieldSchema): string {
  const top = s.maximum !== undefined && s.maximum < Number.MAX_SAFE_INTEGER
    ? s.maximum
    : undefined;
  const low = s.minimum !== undefined && s.minimum > Number.MIN_SAFE_INTEGER
    ? s.minimum
    : undefined;
  if (low !== undefined && top !== undefined) return ` from ${low} to ${top}`;
  const parts: string[] = [];
  if (low !== undefined) parts.push(`of at least ${low}`);
  if (s.exclusiveMinimum !== undefined) parts.push(`above ${s.exclusiveMinimum}`);
  if (top !== undefined) parts.push(`of at most ${top}`);
  if (s.exclusiveMaximum !== undefined) parts.push(`below ${s.exclusiveMaximum}`);
  return parts.length === 0 ? "" : ` ${parts.join(" and ")}`;
}

/** `a, b or c`. */
export function oneOf(names: readonly string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

/**
 * What to write instead of an unknown field: the nearest name beside it, else the nearest field anywhere, else all
 * names beside it.
 *
 * @param path of the unknown field
 */
export function unknownFieldHelp(path: readonly string[]): string {
  const [above, name] = [path.slice(0, -1), path.at(-1)!];
  const full = (sibling: string) => [...above, sibling].join(".");
  const siblings = fieldNames(above);
  const near = nearestName(name, siblings);
  if (near !== undefined) return `The nearest name is ${full(near)}`;
  const everywhere = new Map(fieldPaths().map((field) => [field.split(".").at(-1)!, field]));
  const far = nearestName(name, everywhere.keys());
  if (far !== undefined) return `The nearest name is ${everywhere.get(far)}`;
  return siblings.length === 0
    ? `${above.join(".")} has no fields`
    : `The fields are ${siblings.map(full).join(", ")}`;
}
