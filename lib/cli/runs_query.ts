// `deno task runs query`: a SELECT over the record of one run, or over the index of all. Reading only, bounded in rows
// and time.

import { csvCell } from "../show/export.ts";
import { ResourceError, UsageError } from "../errors.ts";
import type { Flags } from "./flags.ts";
import type { Subcommand } from "./runs.ts";
import { clean, columnsText, indexOf, namedRun, ROOT_FLAG, RUNS_EXITS } from "./runs_common.ts";
import type { Cell, QueryReply, QueryRequest } from "./runs_query_worker.ts";
import { writeResult } from "./write_result.ts";

const FLAGS = {
  ...ROOT_FLAG,
  all: {
    type: "boolean",
    help:
      "over the index of all runs: tables run, metric (the last value of each), setting, checkpoint, evaluation",
  },
  limit: { type: "integer", default: 1000, min: 1, unit: "rows", help: "most rows given" },
  timeout: {
    type: "number",
    default: 30,
    min: 0.1,
    unit: "seconds",
    help: "longest time it may take",
  },
  out: {
    type: "string",
    unit: "FILE",
    help: "write the rows there as CSV instead of printing them",
  },
} as const satisfies Flags;

const MOST_BYTES = 64e6;

/** Width beyond which a printed cell is cut. */
const MOST_WIDTH = 60;

/** `runs query`. */
export const queryRuns: Subcommand<typeof FLAGS> = {
  spec: {
    name: "runs query",
    purpose:
      "Runs one SELECT over a run's record (metric_now, event, evaluation, item, …) or over all runs; it cannot write.",
    usage: 'RUN "SELECT …" | --all "SELECT …"',
    flags: FLAGS,
    examples: [
      [
        'deno task runs query joint/seed-0 "SELECT name, max(step) FROM metric_now GROUP BY name"',
        "one run",
      ],
      [
        "deno task runs query --all \"SELECT run, value FROM metric WHERE name = 'text'\"",
        "all runs",
      ],
    ],
    exitCodes: { ...RUNS_EXITS, 4: "it took too long, or the file cannot be written" },
    positionals: { min: 1, max: 2, names: ["RUN", "SELECT"] },
  },
  main: async ({ flags, args, print, emit, note, signal }) => {
    const sql = args.at(-1)!;
    if (args.length !== (flags.all ? 1 : 2)) {
      throw new UsageError(
        flags.all
          ? "Cannot query: with --all no run is named"
          : "Cannot query: a run and a SELECT are needed",
        {
          help: 'such as: deno task runs query joint/seed-0 "SELECT count(*) FROM metric", or ' +
            '--all "SELECT count(*) FROM run" over all runs',
        },
      );
    }
    refuseSeveral(sql);
    const path = flags.all
      ? indexPath(flags.root, note)
      : `${namedRun(args[0], flags.root, note).dir}/run.sqlite`;
    const request = { path, sql, most: flags.limit, mostBytes: MOST_BYTES };
    const reply = await inWorker(request, flags.timeout, signal);
    if (reply.kind === "refused") {
      throw new UsageError(`Cannot query ${path}: ${clean(reply.message)}`, {
        help: reply.tables.length === 0
          ? "begin with SELECT"
          : `there are ${reply.tables.join(", ")}; columns: SELECT name, sql FROM sqlite_schema`,
      });
    }
    const { columns, rows, more } = reply;
    if (flags.out !== undefined) {
      const lines = [columns, ...rows].map((row) => row.map(csvCell).join(","));
      await writeResult(flags.out, lines.join("\n") + "\n");
      emit({ event: "written", path: flags.out, rows: rows.length, more });
      note(`wrote ${rows.length} rows to ${flags.out}`);
    } else {
      emit({ event: "columns", columns });
      for (const values of rows) emit({ event: "row", values });
      if (rows.length > 0) print(columnsText([columns, ...rows.map((row) => row.map(shown))]));
      else note("no rows");
    }
    if (more) note(`there are more than ${rows.length} rows: raise --limit, or narrow the SELECT`);
  },
};

function indexPath(root: string, note: (text: string) => void): string {
  using index = indexOf(root, note);
  if (index.unwritable === null) return index.path;
  throw new ResourceError(`Cannot query all runs: the index of ${root} cannot be written`, {
    help: "make the folder writable, or query one run",
  });
}

/** Refuses more than one statement: SQLite would run the first and drop the rest. */
function refuseSeveral(sql: string): void {
  const bare = sql.replace(
    /'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?(\*\/|$)/g,
    " ",
  );
  if (bare.trim() === "") throw new UsageError("Cannot query: the SELECT is empty");
  if (/;\s*\S/.test(bare)) throw new UsageError("Cannot query: more than one statement");
}

/** Runs the query in a worker, which ends with the process if it does not end by itself. */
async function inWorker(
  request: QueryRequest,
  seconds: number,
  signal: AbortSignal,
): Promise<QueryReply> {
  const worker = new Worker(new URL("./runs_query_worker.ts", import.meta.url), { type: "module" });
  const { promise, resolve, reject } = Promise.withResolvers<QueryReply>();
  worker.onmessage = ({ data }: MessageEvent<QueryReply>) => resolve(data);
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(event.message));
  };
  const timer = setTimeout(() =>
    reject(
      new ResourceError(`Cannot query ${request.path}: no answer within ${seconds} s`, {
        help: "narrow the SELECT, or raise --timeout",
      }),
    ), seconds * 1000);
  const stopped = () => reject(signal.reason);
  signal.addEventListener("abort", stopped, { once: true });
  try {
    worker.postMessage(request);
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stopped);
    worker.terminate();
  }
}

function shown(cell: Cell): string {
  if (cell === null) return "NULL";
  const text = clean(String(cell));
  return text.length > MOST_WIDTH ? `${text.slice(0, MOST_WIDTH - 1)}…` : text;
}
