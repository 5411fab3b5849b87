// `deno task doctor --tune`: measures what is fastest on this adapter, shows it, and keeps it where the next processes
// find it.

import { LabError, ResourceError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { TUNED_FOLDER, tunedFile, tunedText } from "../gpu/tuned.ts";
import { describeMatmul, MATMUL_TABLE, useMatmulTable } from "../ops/matmul_table.ts";
import { MATMUL_CLASSES, tileName } from "../ops/matmul_tile.ts";
import { type MatmulTrial, tableOf, tuneMatmul, type TuneOptions } from "../ops/matmul_tune.ts";
import { writeWhole } from "../write_whole.ts";
import type { Context } from "./command.ts";

/** What tuning needs of a command. */
export type TuneContext = Pick<Context<Record<never, never>>, "print" | "emit" | "note" | "signal">;

/** Options of {@link tune}: where to keep the result, and those of the measurement. */
export interface TuneCommandOptions extends TuneOptions {
  folder?: URL;
}

/**
 * Measures the tiles of matmul, prints each class with its candidates, keeps the choice in a file and makes the device
 * go by it.
 *
 * @throws {ResourceError} If the file cannot be written
 */
export async function tune(
  context: TuneContext,
  gpu: Gpu,
  { folder = TUNED_FOLDER, ...options }: TuneCommandOptions = {},
): Promise<void> {
  const path = tunedFile(gpu.tuned.key, folder);
  await reach(folder); // before the time is spent
  const { length } = options.classes ?? MATMUL_CLASSES;
  context.note(`measuring matmul on ${gpu.adapter.name}: ${length} classes of products …`);
  const trials: MatmulTrial[] = [];
  for await (const trial of tuneMatmul(gpu, options)) {
    context.signal.throwIfAborted();
    trials.push(trial);
    context.note(`measured ${trial.name}, ${trials.length} of ${length}`);
  }
  context.print("GFLOP/s of matmul tiles (* to go by, = the default)");
  for (const trial of trials) tell(context, trial);

  const table = tableOf(trials);
  const tables = { ...gpu.tuned.tables, [MATMUL_TABLE]: { ...table, rates: ratesOf(trials) } };
  try {
    await writeWhole(decodeURIComponent(path.pathname), tunedText(gpu.tuned.key, tables));
  } catch (error) {
    throw unkept(folder, error);
  }
  useMatmulTable(gpu, table);
  context.emit({ event: "tuned", file: decodeURIComponent(path.pathname), ...describeMatmul(gpu) });
}

async function reach(folder: URL): Promise<void> {
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (error) {
    throw unkept(folder, error);
  }
}

function unkept(folder: URL, cause: unknown): LabError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ResourceError(`Cannot keep the measurements: ${why}`, {
    help: `make ${decodeURIComponent(folder.pathname)} writable`,
    cause,
  });
}

function tell(context: TuneContext, { name, sizes, rates, chosen }: MatmulTrial): void {
  const shape = `${sizes.rows}x${sizes.columns}x${sizes.inner}`;
  const sorted = [...rates].sort((a, b) => b.gflops - a.gflops);
  const texts = sorted.map(({ tile, gflops }) => {
    const mark = `${tile === chosen ? "*" : ""}${tile === rates[0].tile ? "=" : ""}`;
    const rate = gflops > 0 ? gflops.toFixed(gflops < 10 ? 1 : 0) : "WRONG";
    return `${tileName(tile)} ${rate}${mark}`;
  });
  context.print(`  ${name.padEnd(14)} ${shape.padEnd(14)} ${texts.join(", ")}`);
  context.emit({
    event: "trial",
    class: name,
    shape,
    gflops: Object.fromEntries(rates.map(({ tile, gflops }) => [tileName(tile), gflops])),
    default: tileName(rates[0].tile),
    chosen: tileName(chosen),
  });
}

/** GFLOP/s by class and tile, for who reads the file. */
function ratesOf(trials: readonly MatmulTrial[]): Record<string, Record<string, number>> {
  return Object.fromEntries(trials.map(({ name, rates }) => [
    name,
    Object.fromEntries(
      rates.map(({ tile, gflops }) => [tileName(tile), Number(gflops.toFixed(2))]),
    ),
  ]));
}
