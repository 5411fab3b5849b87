// A resolved config for people and for programs: every value with its origin, JSON that can be used as a config
// again, and the JSON Schema that editors check such files by.

import { CONFIG_SCHEMA, type FieldSchema } from "./fields.ts";
import { DEFAULTS, LORA_DEFAULTS, SOURCE_DEFAULTS, STAGE_DEFAULTS } from "./defaults.ts";
import { isRecord, type Json } from "./layers.ts";
import { TRAIN_PRESETS } from "./presets.ts";
import type { ResolvedTrainConfig } from "./resolve.ts";

/** One line per value: path, value, origin; shares beside the weights of a mix. */
export function configText({ values, origins }: ResolvedTrainConfig): string {
  const rows = Object.entries(origins).map(([path, origin]) => {
    const value = valueAt(values as unknown as Json, path);
    return { path, text: JSON.stringify(value) + shareText(values, path, value), origin };
  });
  const order = new Map(leafOrder(values as unknown as Json).map((path, i) => [path, i]));
  rows.sort((a, b) => (order.get(a.path) ?? 0) - (order.get(b.path) ?? 0));
  const [left, middle] = [
    Math.max(...rows.map(({ path }) => path.length)),
    Math.min(40, Math.max(...rows.map(({ text }) => text.length))),
  ];
  return rows.map(({ path, text, origin }) =>
    `${path.padEnd(left)} = ${text.padEnd(middle)}  # ${origin}`
  ).join("\n");
}

/** The config as JSON, fit to be a config file. */
export function configJson({ values }: ResolvedTrainConfig): string {
  return JSON.stringify(values, null, 2) + "\n";
}

/** A weight's share of its mix: weights may add up to anything, as the 105 of the published first stage. */
function shareText(values: ResolvedTrainConfig["values"], path: string, value: Json): string {
  const stage = /^stages\.(\d+)\.mix\./.exec(path)?.[1];
  if (stage === undefined) return "";
  const total = Object.values(values.stages[Number(stage)].mix).reduce((n, w) => n + w, 0);
  if (total === 0) return "";
  return ` (${(100 * (value as number) / total).toFixed(1)} % of the samples)`;
}

function valueAt(value: Json, path: string): Json {
  for (const key of path.split(".")) value = (value as Record<string, Json>)[key];
  return value;
}

/** Paths of values in the order of the config. */
function leafOrder(value: Json, path = ""): string[] {
  const records = Array.isArray(value) && value.some(isRecord);
  if (!records && !isRecord(value)) return [path];
  return Object.entries(value as object).flatMap(([key, inner]) =>
    leafOrder(inner, path === "" ? key : `${path}.${key}`)
  );
}

/** The JSON Schema of a config file: any field may be left out, `extends` names a preset. */
export function configFileSchema(): Record<string, unknown> {
  const { properties } = withDefaults(CONFIG_SCHEMA, DEFAULTS as unknown as Json);
  const { stages, data, lora } = properties!;
  const source = data.properties!.sources.items!;
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Training config of OKA Lab",
    type: "object",
    properties: {
      $schema: { type: "string", description: "For editors; not read" },
      extends: {
        enum: Object.keys(TRAIN_PRESETS),
        description: "Preset that gives whatever is left out here",
      },
      ...properties,
      stages: byName(stages, "stage"),
      data: {
        ...data,
        properties: {
          ...data.properties!,
          sources: byName(data.properties!.sources, "source"),
          validation: byName(data.properties!.validation, "source"),
        },
      },
      lora: {
        ...lora,
        anyOf: lora.anyOf!.map((s) =>
          s.properties ? withDefaults(s, LORA_DEFAULTS as unknown as Json) : s
        ),
      },
    },
    additionalProperties: false,
    $defs: {
      stage: withDefaults(stages.items!, STAGE_DEFAULTS as unknown as Json),
      source: withDefaults(source, SOURCE_DEFAULTS as unknown as Json),
    },
  };
}

/** The text of the JSON Schema's file. */
export function configSchemaText(): string {
  return JSON.stringify(configFileSchema(), null, 2) + "\n";
}

/** A list of records, or a record of changes to the items that a preset has, by name. */
function byName({ description, type }: FieldSchema, item: "stage" | "source"): object {
  const ref = { $ref: `#/$defs/${item}` };
  return {
    description,
    anyOf: [{ type, items: ref }, { type: "object", additionalProperties: ref }],
  };
}

/** Nothing required, and what each field is by default. */
function withDefaults(schema: FieldSchema, defaults: Json | undefined): FieldSchema {
  const { required: _, properties, anyOf, ...rest } = schema;
  const inner = (key: string) => isRecord(defaults) ? defaults[key] : undefined;
  return {
    ...rest,
    ...(anyOf && { anyOf: anyOf.map((s) => withDefaults(s, defaults)) }),
    ...(properties && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([key, s]) => [key, withDefaults(s, inner(key))]),
      ),
    }),
    ...(!properties && !anyOf && defaults !== undefined && !isRecord(defaults)
      ? { default: defaults }
      : {}),
  };
}
