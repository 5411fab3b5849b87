// The flag --profile of every command that opens a device: where the time went, as a table on stderr and as a trace.

import type { Gpu } from "../gpu/device.ts";
import { profileTable } from "../show/profile_table.ts";
import type { Context } from "./command.ts";
import type { Flags, FlagValues } from "./flags.ts";
import { checkOut, writeTrace } from "./verbs/output.ts";

/** The flags. */
export const PROFILE_FLAGS = {
  profile: {
    type: "boolean",
    help: "time every kernel (slower): a table, and a trace for chrome://tracing or Perfetto",
  },
  profileOut: {
    type: "string",
    unit: "FILE",
    help: "the trace (default: beside --out, else results/profile.json); turns --profile on",
  },
} as const satisfies Flags;

/** Values of {@link PROFILE_FLAGS}. */
export type ProfileFlagValues = FlagValues<typeof PROFILE_FLAGS>;

/**
 * The file of the trace, or undefined where nothing is to be profiled. That it can be written is found out here,
 * before anything is computed.
 *
 * @param beside what `--profile` alone writes to
 * @throws {UsageError} If it cannot be written
 */
export async function traceFile(
  { profile, profileOut }: ProfileFlagValues,
  beside: string,
): Promise<string | undefined> {
  const path = profileOut ?? (profile ? beside : undefined);
  if (path !== undefined) await checkOut(path, "trace");
  return path;
}

/** `results/mri.png` → `results/mri.profile.json`; without a result file `results/profile.json`. */
export function traceBeside(out: string | undefined): string {
  if (out === undefined) return "results/profile.json";
  return `${out.replace(/(?<=[^./\\])\.[^./\\]*$/, "")}.profile.json`;
}

/** What {@link profiled} needs of a command. */
type Told = Pick<Context<Flags>, "note" | "emit" | "signal">;

/**
 * Does work on a device. Then, also where it was interrupted, writes the trace, prints the table on stderr and, with
 * --json, emits it as the event `profile`: `rows`, `trace` (the path), `seconds`, `untimed`, `leftOut`.
 *
 * @param path as {@link traceFile} gives it; nothing but the work happens without one
 */
export async function profiled<T>(
  context: Told,
  gpu: Gpu,
  path: string | undefined,
  work: () => Promise<T>,
): Promise<T> {
  if (path === undefined) return await work();
  const startedAt = performance.now();
  let result: T;
  try {
    result = await work();
  } catch (cause) {
    if (context.signal.aborted) await tell(context, gpu, path, startedAt);
    throw cause;
  }
  await tell(context, gpu, path, startedAt);
  return result;
}

async function tell({ note, emit }: Told, gpu: Gpu, path: string, startedAt: number) {
  const { profile } = gpu;
  if (!profile) throw new Error("internal: the device was opened without its profile");
  gpu.flush();
  const rows = await profile.table();
  const seconds = Number(((performance.now() - startedAt) / 1000).toFixed(3));
  const trace = await profile.trace();
  await writeTrace(path, trace);
  const leftOut = trace.otherData.commands_left_out;
  const { untimed } = profile;
  note(profileTable(rows, { adapter: gpu.adapter.name, seconds }));
  if (untimed > 0) note(`${untimed} commands had no valid times: they count as 0 ms`);
  note(`trace in ${path}${leftOut > 0 ? `, without the first ${leftOut} commands` : ""}`);
  emit({ event: "profile", rows, trace: path, seconds, untimed, leftOut });
}
