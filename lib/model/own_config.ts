// The `config.json` that this repository writes beside its own weights: the whole record of lib/model/config.ts
// under `{"kind":"oka","config":…}`, so that models the reference's files cannot describe (pixels as latents)
// can be opened like released ones.

import { fileReason } from "../data/jsonl.ts";
import { nearestName } from "../data/edit_distance.ts";
import { InputError, ResourceError } from "../errors.ts";
import { writeWhole } from "../write_whole.ts";
import { FLUX_AUTOENCODER, PRESETS, type UniMedVLConfig } from "./config.ts";

/** The value of `kind` in `config.json` that marks the format. */
export const OWN_KIND = "oka";

type Json = Record<string, unknown>;

/** Every field of the record: a number, a list of numbers, or a part with fields of its own. */
type Fields = { [name: string]: "number" | "numbers" | Fields };

function fieldsOf(value: object): Fields {
  return Object.fromEntries(
    Object.entries(value).filter(([name]) => name !== "kind").map(([name, inner]) => [
      name,
      Array.isArray(inner) ? "numbers" : typeof inner === "object" ? fieldsOf(inner) : "number",
    ]),
  );
}

const LATENTS: Record<string, Fields> = {
  autoencoder: { autoencoder: fieldsOf(FLUX_AUTOENCODER) },
  pixels: fieldsOf(PRESETS.tiny.latent),
};

/** The text of a `config.json` that {@link ownConfig} reads back without loss. */
export function ownConfigText(config: UniMedVLConfig): string {
  return JSON.stringify({ kind: OWN_KIND, config }, null, 2) + "\n";
}

/**
 * Writes `config.json` into a folder; it appears whole or not at all.
 *
 * @throws {ResourceError} If it cannot be written
 */
export async function writeConfig(dir: string, config: UniMedVLConfig): Promise<void> {
  const path = `${dir}/config.json`;
  try {
    await writeWhole(path, ownConfigText(config));
  } catch (cause) {
    throw new ResourceError(`Cannot write ${path}: ${fileReason(cause)}`, {
      cause,
      help: "check that the folder exists, is writable and has space",
    });
  }
}

/**
 * The config in a parsed `config.json` of kind `oka`: every field must be there, of its kind, and none besides.
 *
 * @param file the file's path, for errors
 * @throws {InputError} Naming the field, and the nearest one where a name is unknown
 */
export function ownConfig(file: string, json: Json): UniMedVLConfig {
  const fail = (what: string, help: string) =>
    new InputError(`Cannot read ${file}: ${what}`, { help });
  const stray = Object.keys(json).find((name) => name !== "kind" && name !== "config");
  if (stray !== undefined) throw fail(`unknown field ${stray}`, "the fields are kind, config");
  const config = asRecord(json.config);
  if (!config) throw fail(`config is ${shown(json.config)}`, "config must be an object");
  const latent = asRecord(config.latent);
  const kind = latent?.kind;
  if (typeof kind !== "string" || !Object.hasOwn(LATENTS, kind)) {
    throw fail(`config.latent.kind is ${shown(kind)}`, 'it must be "autoencoder" or "pixels"');
  }
  const check = (value: Json, fields: Fields, path: string) => {
    const names = Object.keys(fields);
    for (const name of Object.keys(value)) {
      if (Object.hasOwn(fields, name) || `${path}${name}` === "config.latent.kind") continue;
      const near = nearestName(name, names);
      throw fail(
        `unknown field ${path}${name}`,
        near ? `the nearest name is ${path}${near}` : `the fields are ${names.join(", ")}`,
      );
    }
    for (const [name, wanted] of Object.entries(fields)) {
      const at = `${path}${name}`, inner = value[name];
      const said = inner === undefined ? `${at} is missing` : `${at} is ${shown(inner)}`;
      if (wanted === "number") {
        if (!isNumber(inner)) throw fail(said, `${at} must be a number`);
      } else if (wanted === "numbers") {
        const list = Array.isArray(inner) && inner.every(isNumber);
        if (!list) throw fail(said, `${at} must be a list of numbers`);
      } else {
        const part = asRecord(inner);
        if (!part) throw fail(said, `${at} must be an object`);
        check(part, wanted, `${at}.`);
      }
    }
  };
  check(config, { ...fieldsOf(PRESETS.tiny), latent: LATENTS[kind] }, "config.");
  return config as unknown as UniMedVLConfig; // every field was looked at
}

const isNumber = (value: unknown) => typeof value === "number" && Number.isFinite(value);

const shown = (value: unknown) => (JSON.stringify(value) ?? "missing").slice(0, 60);

function asRecord(value: unknown): Json | undefined {
  const plain = typeof value === "object" && value !== null && !Array.isArray(value);
  return plain ? value as Json : undefined;
}
