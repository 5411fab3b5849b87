// One database over all runs below a folder: `index.sqlite`, a cache of what the run folders say. Only runs that
// changed are read again; deleting the file loses nothing. Where it cannot be written it is made in memory.

import { DatabaseSync } from "node:sqlite";
import { InputError } from "../errors.ts";
import { flattenDeep } from "./config_diff.ts";
import { summarizeRun } from "./run_summary.ts";

const APPLICATION_ID = 0x4f4b4149; // "OKAI"
const VERSION = 1;

/** What `runs query --all` sees. `run` in the other tables is `run.name`. */
const TABLES = `
CREATE TABLE run (
  name TEXT PRIMARY KEY, study TEXT, arm TEXT, seed INTEGER, sessions INTEGER, started TEXT,
  ended TEXT, exit_code INTEGER, reason TEXT, step INTEGER, steps INTEGER, seconds REAL,
  adapter TEXT, software INTEGER, ranks INTEGER, commit_hash TEXT, sources_sha256 TEXT,
  config_sha256 TEXT, data_sha256 TEXT, error TEXT, stamp TEXT) STRICT;
CREATE TABLE metric (
  run TEXT, name TEXT, rows INTEGER, step INTEGER, value REAL, flag TEXT, least REAL,
  least_step INTEGER, PRIMARY KEY (run, name)) STRICT, WITHOUT ROWID;
CREATE TABLE setting (
  run TEXT, path TEXT, value TEXT, origin TEXT, PRIMARY KEY (run, path)) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint (run TEXT, step INTEGER, path TEXT, bytes INTEGER) STRICT;
CREATE TABLE evaluation (
  run TEXT, step INTEGER, benchmark TEXT, version INTEGER, split TEXT, weights TEXT, n INTEGER,
  value REAL, low REAL, high REAL) STRICT;
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${VERSION};
`;

/** Tables with a row or more per run. */
const PARTS = ["metric", "setting", "checkpoint", "evaluation"] as const;

/** The index of a folder of runs. */
export interface RunIndex extends Disposable {
  /** Open for reading and writing. */
  readonly db: DatabaseSync;
  /** Its file, or `:memory:`. */
  readonly path: string;
  /** Why it is in memory; null if it is not. */
  readonly unwritable: string | null;
  /** What bringing it up to date did. */
  readonly changes: { runs: number; read: number; removed: number; damaged: number };
}

/** Options of {@linkcode openIndex}. */
export interface IndexOptions {
  /** Read every run again. */
  rebuild?: boolean;
}

/**
 * Opens the index of the runs below `root`, brought up to date.
 *
 * Needs read permission on `root`; with write permission the index is kept for the next time.
 */
export function openIndex(root: string, options: IndexOptions = {}): RunIndex {
  const { db, path, unwritable } = openDatabase(`${root}/index.sqlite`, options.rebuild ?? false);
  try {
    const changes = update(db, root);
    return { db, path, unwritable, changes, [Symbol.dispose]: () => db.close() };
  } catch (error) {
    db.close();
    throw error;
  }
}

function openDatabase(path: string, rebuild: boolean) {
  const make = (at: string) => {
    const db = new DatabaseSync(at);
    try {
      db.exec("PRAGMA busy_timeout = 5000");
      const id = db.prepare("PRAGMA application_id").get()!.application_id;
      const version = db.prepare("PRAGMA user_version").get()!.user_version;
      const fresh = Number(db.prepare("SELECT count(*) AS n FROM sqlite_schema").get()!.n) === 0;
      if (fresh) db.exec(`BEGIN IMMEDIATE; ${TABLES} COMMIT`);
      return { db, current: fresh || (id === APPLICATION_ID && version === VERSION) };
    } catch (error) {
      db.close();
      throw error;
    }
  };
  const remove = () => {
    for (const suffix of ["", "-journal", "-wal", "-shm"]) {
      try {
        Deno.removeSync(path + suffix);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  };
  try {
    if (rebuild) remove();
    let made: ReturnType<typeof make> | undefined;
    try {
      made = make(path);
      if (made.current) {
        made.db.exec("BEGIN IMMEDIATE; ROLLBACK"); // a read-only file opens all the same
        return { db: made.db, path, unwritable: null };
      }
      made.db.close();
    } catch (error) {
      if (made) made.db.close();
      const SQLITE_NOTADB = 26;
      const SQLITE_CORRUPT = 11;
      const { errcode = 0 } = error as { errcode?: number };
      if (![SQLITE_NOTADB, SQLITE_CORRUPT].includes(errcode & 0xff)) throw error;
    }
    remove(); // of another version, or damaged: it is only a cache
    return { db: make(path).db, path, unwritable: null };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw error;
    return { db: make(":memory:").db, path: ":memory:", unwritable: (error as Error).message };
  }
}

/** Brings the rows up to date with the folders. */
function update(db: DatabaseSync, root: string): RunIndex["changes"] {
  const found = findRuns(root);
  const known = new Map(
    db.prepare("SELECT name, stamp FROM run").all().map((row) => [String(row.name), row.stamp]),
  );
  let [read, removed] = [0, 0];
  db.exec("BEGIN IMMEDIATE");
  try {
    for (const name of found) {
      const stamp = stampOf(`${root}/${name}`);
      if (known.get(name) === stamp) continue;
      forget(db, name);
      insertRun(db, root, name, stamp);
      read += 1;
    }
    const present = new Set(found);
    for (const name of known.keys()) {
      if (present.has(name)) continue;
      forget(db, name);
      removed += 1;
    }
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
  const damaged = Number(
    db.prepare("SELECT count(*) AS n FROM run WHERE error IS NOT NULL").get()!.n,
  );
  return { runs: found.length, read, removed, damaged };
}

/** Folders below `root` that hold a run, relative to it, in order of their names. */
export function findRuns(root: string, depth = 6): string[] {
  const names: string[] = [];
  const visit = (folder: string, left: number) => {
    const entries = [...Deno.readDirSync(folder === "" ? root : `${root}/${folder}`)];
    if (entries.some(({ name, isFile }) => isFile && name === "run.json")) {
      names.push(folder);
      return;
    }
    if (left === 0) return;
    for (const { name, isDirectory } of entries) { // a link is no directory here
      if (!isDirectory || name.startsWith(".")) continue;
      visit(folder === "" ? name : `${folder}/${name}`, left - 1);
    }
  };
  visit("", depth);
  return names.filter((name) => name !== "").sort();
}

/** Sizes and times of what a run's row is read from: another stamp, another content. */
function stampOf(dir: string): string {
  return ["run.json", "run.sqlite", "run.sqlite-wal"].map((file) => {
    try {
      const { size, mtime } = Deno.statSync(`${dir}/${file}`);
      return `${size}@${mtime?.getTime()}`;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "-";
      throw error;
    }
  }).join(" ");
}

function forget(db: DatabaseSync, name: string): void {
  db.prepare("DELETE FROM run WHERE name = ?").run(name);
  for (const part of PARTS) db.prepare(`DELETE FROM ${part} WHERE run = ?`).run(name);
}

function insertRun(db: DatabaseSync, root: string, name: string, stamp: string): void {
  const insert = (table: string, row: Record<string, string | number | null>) => {
    const marks = Object.keys(row).map(() => "?").join(", ");
    db.prepare(`INSERT INTO ${table} (${Object.keys(row).join(", ")}) VALUES (${marks})`)
      .run(...Object.values(row));
  };
  let run: ReturnType<typeof summarizeRun>;
  try {
    run = summarizeRun(`${root}/${name}`);
  } catch (error) {
    // A record that cannot be read now may be readable later without having changed: it is tried again.
    const kept = error instanceof InputError ? stamp : null;
    insert("run", { name, error: (error as Error).message, stamp: kept });
    return;
  }
  const { header } = run;
  insert("run", {
    name,
    study: header.study,
    arm: header.arm,
    seed: header.seed,
    sessions: run.sessions,
    started: run.started,
    ended: run.ended,
    exit_code: run.exitCode,
    reason: run.reason,
    step: run.step,
    steps: run.steps,
    seconds: run.seconds,
    adapter: run.adapter,
    software: run.software === null ? null : Number(run.software),
    ranks: run.ranks,
    commit_hash: run.commit,
    sources_sha256: header.sourcesSha256,
    config_sha256: header.configSha256,
    data_sha256: header.dataSha256,
    stamp,
  });
  for (const { name: metric, rows, step, value, least, leastStep } of run.metrics) {
    const flag = Number.isFinite(value)
      ? null
      : Number.isNaN(value)
      ? "nan"
      : value > 0
      ? "inf"
      : "-inf";
    insert("metric", {
      run: name,
      name: metric,
      rows,
      step,
      value: flag === null ? value : null,
      flag,
      least,
      least_step: leastStep,
    });
  }
  for (const [path, value] of Object.entries(flattenDeep(header.config))) {
    const origin = header.origins[path] ?? null;
    insert("setting", { run: name, path, value: JSON.stringify(value), origin });
  }
  for (const row of run.checkpoints) insert("checkpoint", { run: name, ...row });
  for (const row of run.evaluations) insert("evaluation", { run: name, ...row });
}
