// The tiles of matmul that were measured to be fastest on an adapter, per class of products: read from what the device
// was opened with, checked before any of it is used, and told to people and run records.

import packedB from "../../kernels/common/matmul_b_packed.wgsl" with { type: "text" };
import type { Gpu } from "../gpu/device.ts";
import { loadedKernels } from "../gpu/kernel.ts";
import { textHash, type TunedTables } from "../gpu/tuned.ts";
import {
  canRun,
  MATMUL_CLASSES,
  MATMUL_KERNELS,
  type MatmulClass,
  type MatmulTile,
  tileName,
} from "./matmul_tile.ts";

/** Its name among the tables of a device. */
export const MATMUL_TABLE = "matmul";

/** Tiles by class; a class that is not in it takes the default. */
export interface MatmulTable {
  /** Hash of the kernels that were measured. */
  kernels: string;
  tiles: { readonly [K in MatmulClass]?: MatmulTile };
}

/** Where the choices of a device come from. */
interface InForce {
  table: MatmulTable | undefined;
  note: string | undefined;
}

const inForce = new WeakMap<Gpu, InForce>();

/** Hash of the text of all matmul kernels, so that measurements of other kernels do not count. */
export function matmulKernelsHash(): string {
  const texts = loadedKernels().filter(({ name }) => name.startsWith("matmul"))
    .map(({ name, main, parts }) => [name, main, ...parts].join("\n"));
  return textHash([packedB, ...texts.sort()].join("\n"));
}

/** The measured tiles that this device goes by; undefined where it goes by the defaults. */
export function matmulTable(gpu: Gpu): MatmulTable | undefined {
  return read(gpu).table;
}

/** Makes a device go by these tiles from now on, or by the defaults. */
export function useMatmulTable(gpu: Gpu, table: MatmulTable | undefined): void {
  inForce.set(gpu, { table, note: undefined });
}

/** What a device goes by, for people and for run records. */
export interface MatmulDescription {
  /** `tuned` where some class goes by a measurement on this adapter. */
  origin: "tuned" | "default";
  /** Tiles by class, in words; those of the defaults depend on the sizes and are not listed. */
  tiles: { [K in MatmulClass]?: string };
  /** Why measurements that are there do not count. */
  note?: string;
}

/** Describes the choices in force. */
export function describeMatmul(gpu: Gpu): MatmulDescription {
  const { table, note } = read(gpu);
  const named = MATMUL_CLASSES.flatMap((name) => {
    const tile = table?.tiles[name];
    return tile ? [[name, tileName(tile)] as const] : [];
  });
  return {
    origin: table ? "tuned" : "default",
    tiles: Object.fromEntries(named),
    ...(note === undefined ? {} : { note }),
  };
}

function read(gpu: Gpu): InForce {
  let found = inForce.get(gpu);
  if (!found) inForce.set(gpu, found = readTable(gpu, gpu.tuned.tables, gpu.tuned.note));
  return found;
}

function readTable(gpu: Gpu, tables: TunedTables, note: string | undefined): InForce {
  const given = tables[MATMUL_TABLE];
  if (given === undefined) return { table: undefined, note };
  const ignored = (why: string) => ({
    table: undefined,
    note: `measured matmul tiles are ignored: ${why}`,
  });
  if (!isRecord(given) || !isRecord(given.tiles)) {
    return ignored("they are not in the form expected");
  }
  if (given.kernels !== matmulKernelsHash()) {
    return ignored("they are of other kernels; deno task doctor --tune measures again");
  }
  for (const [name, tile] of Object.entries(given.tiles)) {
    if (!MATMUL_CLASSES.some((known) => known === name)) {
      return ignored(`there is no class ${name}`);
    }
    if (!isTile(tile) || !canRun(gpu, tile)) {
      return ignored(`this adapter cannot run the tile of ${name}`);
    }
  }
  return { table: { kernels: given.kernels, tiles: given.tiles }, note };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTile(value: unknown): value is MatmulTile {
  return isRecord(value) && MATMUL_KERNELS.some((name) => name === value.kernel) &&
    typeof value.rowBlocks === "number" && typeof value.columnBlocks === "number" &&
    (value.side === undefined || typeof value.side === "number");
}
