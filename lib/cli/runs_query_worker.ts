// The worker that runs a SELECT for `deno task runs query`: SQLite cannot be interrupted from its own thread, so a
// query without an end must be ended with its process. Only reading is allowed: an open file for reading would still
// let VACUUM INTO write another.

import { DatabaseSync } from "node:sqlite";

/** A query to run. */
export interface QueryRequest {
  path: string;
  sql: string;
  /** Rows beyond which it stops. */
  most: number;
  /** Bytes of text beyond which it stops. */
  mostBytes: number;
}

/** A value of a row; blobs as hexadecimal text. */
export type Cell = string | number | null;

/** What came of it. */
export type QueryReply =
  | { kind: "rows"; columns: string[]; rows: Cell[][]; more: boolean }
  | { kind: "refused"; message: string; tables: string[] };

/** SQLite's codes of what a statement does (sqlite3.h, part of its stable interface). */
const [READ, SELECT, FUNCTION, RECURSIVE] = [20, 21, 31, 33];

/** What it may do for a query: read, and call functions that stay within it. */
const ALLOWED = new Set([READ, SELECT, FUNCTION, RECURSIVE]);
const [OK, DENY] = [0, 1];

const ONLY_SELECT = "only SELECT is allowed here";

/** Runs one SELECT. */
export function runQuery({ path, sql, most, mostBytes }: QueryRequest): QueryReply {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    db.exec("PRAGMA busy_timeout = 5000");
    let denied = false;
    authorize(db, (action, _, name) => {
      const fine = ALLOWED.has(action) &&
        !(action === FUNCTION && /^load_extension$/i.test(name ?? ""));
      denied ||= !fine;
      return fine ? OK : DENY;
    });
    try {
      return read(db, sql, most, mostBytes);
    } catch (error) {
      const message = denied ? ONLY_SELECT : (error as Error).message;
      return { kind: "refused", message, tables: tablesOf(path) };
    }
  } finally {
    db.close();
  }
}

/** Names of tables and views. */
function tablesOf(path: string): string[] {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    return db.prepare(
      "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name",
    )
      .all().map(({ name }) => String(name)).filter((name) => !name.startsWith("sqlite_"));
  } finally {
    db.close();
  }
}

type Authorizer = (action: number, first: string | null, second: string | null) => number;

/** Deno has the method; its types do not. */
function authorize(db: DatabaseSync, allow: Authorizer): void {
  (db as unknown as { setAuthorizer(allow: Authorizer): void }).setAuthorizer(allow);
}

function read(db: DatabaseSync, sql: string, most: number, mostBytes: number): QueryReply {
  const statement = db.prepare(sql) as ReturnType<DatabaseSync["prepare"]> & {
    setReturnArrays(on: boolean): void;
    columns(): { name: string }[];
  };
  statement.setReturnArrays(true); // two columns may have one name
  const columns = statement.columns().map(({ name }) => name);
  // What gives no columns is no SELECT: VACUUM INTO, for one, is not asked about before it runs.
  if (columns.length === 0) return { kind: "refused", message: ONLY_SELECT, tables: [] };
  const rows: Cell[][] = [];
  let bytes = 0;
  for (const row of statement.iterate() as unknown as Iterable<unknown[]>) {
    if (rows.length === most || bytes > mostBytes) {
      return { kind: "rows", columns, rows, more: true };
    }
    const cells = row.map(cellOf);
    bytes += cells.reduce<number>((n, cell) => n + (typeof cell === "string" ? cell.length : 8), 0);
    rows.push(cells);
  }
  return { kind: "rows", columns, rows, more: false };
}

function cellOf(value: unknown): Cell {
  if (value instanceof Uint8Array) return `x'${value.toHex()}'`;
  if (typeof value === "bigint") return String(value);
  return value as Cell;
}

// `self` is a worker's only in a worker.
const worker = globalThis as unknown as {
  postMessage?(reply: QueryReply): void;
  onmessage: ((event: MessageEvent<QueryRequest>) => void) | null;
  WorkerGlobalScope?: unknown;
};
if (worker.postMessage !== undefined && worker.WorkerGlobalScope !== undefined) {
  worker.onmessage = ({ data }) => worker.postMessage!(runQuery(data));
}
