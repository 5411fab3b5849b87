// What is saved of a training run: tensors that are read one at a time, and a record of everything else.

import { MANIFEST } from "./manifest.ts";
import { ELEMENT_BYTES, type FilePlan, planSafetensors } from "../../data/safetensors_plan.ts";

/** A tensor to save. */
export interface TensorEntry {
  name: string;
  shape: readonly number[];
  dtype: keyof typeof ELEMENT_BYTES;
  /**
   * Its bytes, little-endian, in memory that nobody else uses: it is given back when they are written. Called once per
   * try, when its turn comes.
   */
  read(): Promise<Uint8Array>;
}

/** The state of a run after a step. */
export interface Snapshot {
  /** Steps done. */
  step: number;
  /** Safetensors files, such as `model.safetensors`, `ema.safetensors`, `optimizer.safetensors`. */
  files: readonly {
    name: string;
    tensors: readonly TensorEntry[];
    /** The header's `__metadata__`. Default: the format of PyTorch. */
    metadata?: Readonly<Record<string, string>>;
  }[];
  /** Scheduler, counters, loader, curriculum, kernel choices: JSON values only. */
  state: object;
  /** More files, by name: `config.json` and the like, which make the folder usable as a model. Default: none. */
  texts?: Readonly<Record<string, string>>;
}

/** Name of the record beside the tensors. */
export const STATE = "state.json";

/** A file whose layout is settled. */
export interface PlannedTensors extends FilePlan {
  name: string;
  /** By falling element size, then name: aligned, and the same bytes for the same content. */
  tensors: TensorEntry[];
}

/** A snapshot whose files are settled to the byte. */
export interface PlannedSnapshot {
  files: PlannedTensors[];
  texts: { name: string; content: Uint8Array<ArrayBuffer> }[];
  state: Uint8Array;
  /** Of all files and the record. */
  bytes: number;
}

/**
 * Settles what will be written; reads no tensor.
 *
 * @throws {TypeError} If a file's or tensor's name is used twice or unfit, or the record holds what JSON cannot
 */
export function planSnapshot({ files, state, texts = {} }: Snapshot): PlannedSnapshot {
  const seen = new Set<string>();
  const planned = files.map(({ name, tensors, metadata = { format: "pt" } }) => {
    if (!/^[a-z0-9_-]+\.safetensors$/.test(name) || seen.has(name)) {
      throw new TypeError(`Cannot save ${JSON.stringify(name)}: the name is unfit or used twice`);
    }
    seen.add(name);
    const sorted = inFileOrder(tensors);
    return { name, tensors: sorted, ...planSafetensors(sorted, metadata) };
  });
  checkJson(state, "state");
  const text = new TextEncoder().encode(JSON.stringify(state, null, 2) + "\n");
  const more = Object.entries(texts).map(([name, content]) => {
    if (!/^[a-z0-9_-]+\.(json|txt)$/.test(name) || [STATE, MANIFEST].includes(name)) {
      throw new TypeError(`Cannot save ${JSON.stringify(name)}: the name is unfit`);
    }
    return { name, content: new TextEncoder().encode(content) };
  });
  const bytes = planned.reduce((sum, { offsets }) => sum + offsets.at(-1)!, text.length) +
    more.reduce((sum, { content }) => sum + content.length, 0);
  return { files: planned, texts: more, state: text, bytes };
}

/** Tensors in the order in which a file holds them, and in which they are read. */
export function inFileOrder<T extends Pick<TensorEntry, "name" | "dtype">>(
  tensors: readonly T[],
): T[] {
  return [...tensors].sort((a, b) =>
    ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype] || (a.name < b.name ? -1 : 1)
  );
}

/** Bytes that a checkpoint of this snapshot takes, but for a list of some hundred bytes. */
export function snapshotBytes(snapshot: Snapshot): number {
  return planSnapshot(snapshot).bytes;
}

/** Refuses what JSON would drop or turn into null: it would be missing after a resume. */
function checkJson(value: unknown, at: string): void {
  if (value === null || typeof value === "string" || typeof value === "boolean") return;
  if (typeof value === "number" && Number.isFinite(value)) return;
  if (Array.isArray(value)) return value.forEach((item, i) => checkJson(item, `${at}.${i}`));
  const prototype = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (prototype === Object.prototype || prototype === null) {
    for (const [key, item] of Object.entries(value as object)) checkJson(item, `${at}.${key}`);
    return;
  }
  const shown = typeof value === "object" ? value!.constructor.name : String(value);
  throw new TypeError(`Cannot save ${at}: ${shown} is no JSON value`);
}
