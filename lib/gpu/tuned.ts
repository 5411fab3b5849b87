// What was measured on an adapter in an earlier process: one small JSON file per adapter in the folder `.oka/tuned` of
// the repository, which every task may read and `deno task doctor --tune` writes. Reading is optional: without the
// permission, the file or its sense, the defaults hold. It never prompts.

import type { AdapterFacts } from "./adapter.ts";

/** Where the files lie: in a hidden folder of the repository, which git ignores. */
export const TUNED_FOLDER: URL = new URL("../../.oka/tuned/", import.meta.url);

/** What a file says it was measured on; another adapter, driver or runtime has another. */
export interface TunedKey {
  adapter: string;
  vendor: string;
  /** Makes drivers and devices of one name apart, as far as the platform tells. */
  device: string;
  /** Compiles the kernels: its version matters. */
  runtime: string;
}

/** Measurements by what they are about, each read and checked by the room that made it. */
export type TunedTables = Readonly<Record<string, unknown>>;

/** What was found. */
export interface Tuned {
  key: TunedKey;
  /** Empty if there is no file, or none that counts. */
  tables: TunedTables;
  /** Why a file that is there does not count. */
  note?: string;
}

/** The key of an adapter under the runtime of this process. */
export function tunedKey(facts: AdapterFacts, info: GPUAdapterInfo): TunedKey {
  const { architecture, device, description } = info;
  return {
    adapter: facts.name,
    vendor: facts.vendor,
    device: [architecture, device, description].filter(Boolean).join(", "),
    runtime: `${navigator.userAgent} ${globalThis.Deno?.build.target ?? ""}`.trim(),
  };
}

/** The file of a key: a name to recognize, and a hash of all of it. */
export function tunedFile(key: TunedKey, folder: URL = TUNED_FOLDER): URL {
  const plain = key.adapter.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "");
  return new URL(`${plain.slice(0, 40)}_${textHash(JSON.stringify(key))}.json`, folder);
}

/** The text of a file for {@link readTuned}. */
export function tunedText(key: TunedKey, tables: TunedTables): string {
  return `${JSON.stringify({ key, tables }, null, 2)}\n`;
}

/** Reads what was measured under a key, if this process may and there is something. */
export async function readTuned(key: TunedKey, folder: URL = TUNED_FOLDER): Promise<Tuned> {
  const nothing = { key, tables: {} };
  const path = tunedFile(key, folder);
  if (!globalThis.Deno || path.protocol !== "file:") return nothing;
  const { state } = await Deno.permissions.query({ name: "read", path });
  if (state !== "granted") return nothing;
  const ignored = (why: string) => ({
    ...nothing,
    note: `${decodeURIComponent(path.pathname)} is ignored: ${why}`,
  });
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return nothing;
    return ignored(error instanceof Error ? error.message : String(error));
  }
  try {
    const file = JSON.parse(text);
    if (JSON.stringify(file?.key) !== JSON.stringify(key)) {
      return ignored("it was measured on another adapter");
    }
    if (typeof file.tables !== "object" || file.tables === null) {
      return ignored("it holds no measurements");
    }
    return { key, tables: file.tables };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return ignored("it is no JSON");
  }
}

/** A hash of text in 16 hexadecimal digits (FNV-1a in two lanes): names and versions, no security. */
export function textHash(text: string): string {
  let [low, high] = [0x811c9dc5, 0x9747b28c];
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    low = Math.imul(low ^ unit, 0x01000193);
    high = Math.imul(high ^ (unit + (low >>> 15)), 0x85ebca6b);
  }
  return [low, high].map((n) => (n >>> 0).toString(16).padStart(8, "0")).join("");
}
