// `deno task parity DIR`: our numbers against golden numbers of the reference, tensor by tensor.

import { UsageError } from "../errors.ts";
import { type GpuOptions, openDevice } from "../gpu/device.ts";
import { openFixture, type Row } from "../parity/compare.ts";
import { type Group, GROUPS, runGroup } from "../parity/groups.ts";
import type { Context } from "./command.ts";

/** Which part of a folder is checked, where, and how much is said. */
export interface FolderOptions {
  /** Group names, comma-separated; default all. */
  only: string | undefined;
  adapter: NonNullable<GpuOptions["adapter"]>;
  /** One line per case, and the tensors that miss. */
  brief: boolean;
}

/** Where results go, and the signal to stop. */
export type Output = Pick<Context<Record<never, never>>, "print" | "emit" | "signal">;

/** Runs the groups over a folder. @returns the exit code: 0 if every tensor is within its tolerance, else 1 */
export async function checkFolder(
  dir: string,
  { only, adapter, brief }: FolderOptions,
  { print, emit, signal }: Output,
): Promise<number> {
  const groups = wantedGroups(only);
  const fixture = await openFixture(dir);
  const gpu = await openDevice({ adapter });
  let [passed, failed] = [0, 0];
  for (const group of groups) {
    signal.throwIfAborted();
    const rows = await runGroup(group, gpu, fixture);
    for (const [name, part] of byCase(rows)) {
      const misses = part.filter((row) => !row.ok);
      passed += part.length - misses.length;
      failed += misses.length;
      print(caseLine(group, name, part));
      for (const row of part) emit({ event: "tensor", group, ...row });
      for (const row of brief ? misses : part) print(tensorLine(row));
    }
  }
  print(`total: ${passed + failed} tensors, ${passed} within tolerance, ${failed} outside`);
  print(`adapter: ${gpu.adapter.name}`);
  emit({ event: "done", passed, failed, adapter: gpu.adapter.name });
  await fixture.close();
  gpu.close();
  return failed === 0 && passed > 0 ? 0 : 1;
}

function wantedGroups(only: string | undefined): readonly Group[] {
  if (only === undefined) return GROUPS;
  return only.split(",").map((name) => {
    const group = GROUPS.find((g) => g === name.trim());
    if (group) return group;
    throw new UsageError(`Cannot check group "${name}": there is none of that name`, {
      help: `groups are ${GROUPS.join(", ")}`,
    });
  });
}

function byCase(rows: Row[]): Map<string, Row[]> {
  const cases = new Map<string, Row[]>();
  for (const row of rows) {
    const part = cases.get(row.case);
    if (part) part.push(row);
    else cases.set(row.case, [row]);
  }
  return cases;
}

/** The tensor that comes closest to its tolerance stands for its case. */
function caseLine(group: string, name: string, rows: Row[]): string {
  const closeness = (row: Row) => row.error === 0 ? 0 : row.error / row.tolerance;
  const worst = rows.reduce((a, b) => closeness(b) > closeness(a) || !b.ok && a.ok ? b : a);
  const ok = rows.every((row) => row.ok);
  const label = `${group}/${name}`.padEnd(34);
  const count = `${rows.length} tensors`.padEnd(12);
  return `${ok ? "ok  " : "MISS"} ${label} ${count} worst ${fraction(worst)} ${worst.tensor}`;
}

function tensorLine(row: Row): string {
  return `  ${row.ok ? "ok  " : "MISS"} ${row.tensor} ${fraction(row)}${
    row.note ? `: ${row.note}` : ""
  }`;
}

function fraction({ error, tolerance }: Row): string {
  return `${error.toExponential(1)} / ${tolerance.toExponential(1)}`;
}
