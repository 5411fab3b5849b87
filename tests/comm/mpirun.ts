// Starts several ranks of rank_program.ts, as the tests do: with the permissions that `deno task train` has for MPI.

import { runQuietly } from "../../lib/cli/python.ts";
import { COMM_VARIABLES } from "../../lib/comm/open.ts";
import { LIBRARY_PATHS } from "../../lib/comm/mpi_library.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const PROGRAM = `${ROOT}tests/comm/rank_program.ts`;

/** What one run of several ranks said. */
export interface RanksResult {
  code: number;
  stdout: string;
  stderr: string;
  /** Wall time in milliseconds. */
  ms: number;
  /** What the ranks said, by rank: JSON values in the order they were said. */
  // deno-lint-ignore no-explicit-any
  said: any[][];
}

/** True where mpirun can be started. */
export const HAS_MPIRUN = (await runQuietly("mpirun", ["--version"]))?.code === 0;

/** Name and options of a test that needs mpirun: skipped by name where there is none. */
export function mpiTest(name: string): { name: string; ignore: boolean } {
  return HAS_MPIRUN
    ? { name, ignore: false }
    : { name: `${name} (skipped: no mpirun; deno task setup installs it)`, ignore: true };
}

/** Runs a task of the program on `ranks` ranks, each with one thread for the software adapter. */
export async function runRanks(
  ranks: number,
  task: string,
  settings: Readonly<Record<string, string | number>> = {},
): Promise<RanksResult> {
  const started = performance.now();
  const out = await Deno.makeTempDir();
  const root = Deno.build.os !== "windows" && Deno.uid() === 0;
  const { code, stdout, stderr } = await new Deno.Command("mpirun", {
    args: [
      ...(root ? ["--allow-run-as-root"] : []),
      "--oversubscribe",
      ...["-n", String(ranks), "deno", "run", "--quiet", "--no-prompt", "--frozen"],
      `--allow-ffi=${LIBRARY_PATHS.join(",")}`,
      `--allow-env=${COMM_VARIABLES.join(",")}`,
      "--allow-run=kill", // a rank that ends itself
      `--allow-write=${out}`,
      PROGRAM,
      task,
      `out=${out}`,
      ...Object.entries(settings).map(([key, value]) => `${key}=${value}`),
    ],
    cwd: ROOT,
    env: { LP_NUM_THREADS: "1", XDG_RUNTIME_DIR: "/tmp", NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  const result = { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  const said: unknown[][] = [];
  for (let rank = 0; rank < ranks; rank++) {
    const lines = await Deno.readTextFile(`${out}/rank-${rank}`).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return ""; // it ended before it had anything to say
      throw error;
    });
    said.push(lines.split("\n").filter(Boolean).map((line) => JSON.parse(line)));
  }
  await Deno.remove(out, { recursive: true });
  return { ...result, ms: performance.now() - started, said };
}

/** Milliseconds until a process is gone; those it was killed with may lie unburied for a moment. */
export async function msUntilGone(pid: number, mostMs: number): Promise<number> {
  const started = performance.now();
  while (performance.now() - started < mostMs) {
    const args = ["-0", String(pid)];
    const { success } = await new Deno.Command("kill", { args, stderr: "null" }).output();
    if (!success) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return performance.now() - started;
}
