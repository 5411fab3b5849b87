// Measured points for the cost model: the tests' own training (tests/comm/rank_program.ts) on one and two ranks of this
// machine, each with one thread of the software adapter.

import { COMM_VARIABLES } from "../../lib/comm/open.ts";
import { LIBRARY_PATHS } from "../../lib/comm/mpi_library.ts";
import { ResourceError } from "../../lib/errors.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** One training: medians over its steps, the first two left out. */
export interface Point {
  ranks: number;
  width: number;
  /** Milliseconds of a step. */
  step: number;
  /** Megabytes of gradients. */
  megabytes: number;
  /** Milliseconds of the exchange, and of that after backward had ended. */
  exchange: number;
  waited: number;
}

/** Speeds of one machine: seconds per message, bytes per second. */
export interface Speeds {
  latency: number;
  network: number;
  wait: number;
  readBack: number;
  writeBack: number;
  /** Whole exchanges with no backward to hide behind, in buckets of 1 MiB. */
  exchanges: { megabytes: number; ms: number }[];
}

async function ranks<T>(count: number, settings: readonly string[]): Promise<T[]> {
  const out = await Deno.makeTempDir();
  try {
    const { code, stderr } = await new Deno.Command("mpirun", {
      args: [
        ...(Deno.uid() === 0 ? ["--allow-run-as-root"] : []),
        ...[
          "--oversubscribe",
          "-n",
          String(count),
          "deno",
          "run",
          "--quiet",
          "--no-prompt",
          "--frozen",
        ],
        `--allow-ffi=${LIBRARY_PATHS.join(",")}`,
        `--allow-env=${COMM_VARIABLES.join(",")}`,
        `--allow-write=${out}`,
        `${ROOT}tests/comm/rank_program.ts`,
        ...settings,
        `out=${out}`,
      ],
      cwd: ROOT,
      env: { LP_NUM_THREADS: "1", XDG_RUNTIME_DIR: "/tmp" },
    }).output();
    if (code !== 0) {
      throw new ResourceError(`Cannot measure: ${new TextDecoder().decode(stderr).trim()}`, {
        help: "deno task setup says whether Open MPI is there",
      });
    }
    return await Promise.all(
      Array.from(
        { length: count },
        async (_, rank) => JSON.parse(await Deno.readTextFile(`${out}/rank-${rank}`)),
      ),
    );
  } finally {
    await Deno.remove(out, { recursive: true });
  }
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** Trains on so many ranks, with six samples each. */
export async function measure(count: number, width: number, steps: number): Promise<Point> {
  interface Result {
    ms: number[];
    stats: { bytes: number; exchangeMs: number; waitedMs: number }[];
  }
  const results = await ranks<Result>(count, [
    "training",
    `width=${width}`,
    `steps=${steps}`,
    `samples=${6 * count}`,
    `bucketBytes=${2 ** 20}`,
  ]);
  const over = (pick: (result: Result) => number[]) =>
    median(results.flatMap((result) => pick(result).slice(2)));
  return {
    ranks: count,
    width,
    step: over(({ ms }) => ms),
    megabytes: (results[0].stats[0]?.bytes ?? 0) / 1e6,
    exchange: count === 1 ? 0 : over(({ stats }) => stats.map((s) => s.exchangeMs)),
    waited: count === 1 ? 0 : over(({ stats }) => stats.map((s) => s.waitedMs)),
  };
}

/** Measures messages between two ranks, and copies between host and device. */
export async function measureSpeeds(): Promise<Speeds> {
  const [speeds] = await ranks<Speeds>(2, ["speeds"]);
  return speeds;
}
