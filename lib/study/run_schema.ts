// The tables of run.sqlite, and opening one for writing or reading.

import { DatabaseSync } from "node:sqlite";
import { InputError } from "../errors.ts";
import { isRefusal } from "./record_fault.ts";

const APPLICATION_ID = 0x4f4b414c; // "OKAL"
const VERSION = 1;

/**
 * `metric` keeps every row ever logged. `metric_now` hides rows that a later session has replaced: those
 * after the step it continued from. SQLite stores NaN as NULL, so `flag` says nan, inf or -inf.
 */
const TABLES = `
CREATE TABLE session (
  id INTEGER PRIMARY KEY, started TEXT, ended TEXT, exit_code INTEGER, reason TEXT,
  from_step INTEGER, commit_hash TEXT, sources_sha256 TEXT, deno TEXT, os TEXT, adapter TEXT,
  software INTEGER, limits TEXT, features TEXT, kernel_choices TEXT, budget_bytes INTEGER,
  ranks INTEGER, argv TEXT) STRICT;
CREATE TABLE metric (
  name TEXT, step INTEGER, session INTEGER, value REAL, flag TEXT,
  PRIMARY KEY (name, step, session)) STRICT, WITHOUT ROWID;
CREATE VIEW metric_now AS SELECT m.* FROM metric m WHERE NOT EXISTS
  (SELECT 1 FROM session s WHERE s.id > m.session AND s.from_step < m.step);
CREATE TABLE event (
  id INTEGER PRIMARY KEY, session INTEGER, step INTEGER, ms REAL, kind TEXT, detail TEXT) STRICT;
CREATE TABLE checkpoint (
  step INTEGER, session INTEGER, path TEXT, bytes INTEGER, sha256 TEXT, deleted INTEGER DEFAULT 0,
  PRIMARY KEY (step, session)) STRICT;
CREATE TABLE evaluation (
  id INTEGER PRIMARY KEY, session INTEGER, step INTEGER, benchmark TEXT, version INTEGER,
  scorer TEXT, split TEXT, weights TEXT, n INTEGER, value REAL, low REAL, high REAL,
  options TEXT) STRICT;
CREATE TABLE item (
  evaluation INTEGER, item TEXT, prompt_sha256 TEXT, answer TEXT, target TEXT, score REAL,
  error TEXT, PRIMARY KEY (evaluation, item)) STRICT, WITHOUT ROWID;
CREATE TABLE probe (
  site TEXT, step INTEGER, target TEXT, kind TEXT, control TEXT, split TEXT, value REAL, low REAL,
  high REAL, n INTEGER, PRIMARY KEY (site, step, target, kind, control, split)) STRICT;
CREATE TABLE artifact (path TEXT PRIMARY KEY, kind TEXT, sha256 TEXT, made_from TEXT) STRICT;
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${VERSION};
`;

/**
 * Opens a run's database for writing, with its tables made if it is new.
 *
 * @returns the database, and the journal mode it got: `wal`, or another where the disk refuses that
 * @throws {InputError} If the file is no run database, or one of a newer version
 */
export function openRunDatabase(path: string): { db: DatabaseSync; journal: string } {
  const db = new DatabaseSync(path);
  try {
    db.exec("PRAGMA busy_timeout = 5000");
    checkIdentity(db, path, { mayBeNew: true });
    const journal = String(db.prepare("PRAGMA journal_mode = WAL").get()!.journal_mode);
    db.exec("PRAGMA synchronous = NORMAL");
    if (pragma(db, "user_version") === 0) db.exec(`BEGIN IMMEDIATE; ${TABLES} COMMIT`);
    return { db, journal };
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * Opens a run's database for reading only; works while another process writes it.
 *
 * @throws {InputError} If the file is no run database, or one of a newer version
 */
export function readRunDatabase(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    db.exec("PRAGMA busy_timeout = 5000");
    checkIdentity(db, path, { mayBeNew: false });
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * Closes a run's database so that the folder is whole by itself: the journal is folded into the file.
 * A reader that is in the file at this moment prevents that; then the journal stays beside it, valid.
 */
export function closeRunDatabase(db: DatabaseSync): void {
  db.exec("PRAGMA busy_timeout = 0");
  try {
    db.exec("PRAGMA journal_mode = DELETE");
  } catch (error) {
    const SQLITE_BUSY = 5;
    const busy = (error as { errcode?: number }).errcode === SQLITE_BUSY;
    if (!busy && !isRefusal(error)) throw error; // the journal stays beside the file: nothing is lost
  } finally {
    db.close();
  }
}

function checkIdentity(db: DatabaseSync, path: string, { mayBeNew }: { mayBeNew: boolean }): void {
  let [application, version, tables] = [0, 0, 0];
  try {
    application = pragma(db, "application_id");
    version = pragma(db, "user_version");
    tables = Number(db.prepare("SELECT count(*) AS n FROM sqlite_schema").get()!.n);
  } catch (error) {
    throw new InputError(`Cannot open ${path}: ${(error as Error).message}`, { cause: error });
  }
  if (mayBeNew && application === 0 && version === 0 && tables === 0) return;
  if (application !== APPLICATION_ID) {
    throw new InputError(`Cannot open ${path}: it is not a run database`);
  }
  if (version !== VERSION) {
    throw new InputError(
      `Cannot open ${path}: its format is ${version}, this code reads ${VERSION}`,
      {
        help: "Use the version of the code that wrote it",
      },
    );
  }
}

function pragma(db: DatabaseSync, name: "application_id" | "user_version"): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()![name]);
}
