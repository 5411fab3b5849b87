// The run store: one folder is the whole record of one run (settings, metrics, events, evaluations,
// probes, log), held by one writer through a file lock that dies with its owner.

import type { DatabaseSync } from "node:sqlite";
import { EXIT, ResourceError, UsageError } from "../errors.ts";
import type { Json, ResolvedConfig } from "./config.ts";
import { writingRecord } from "./record_fault.ts";
import { canonicalJson, hashSources, readCommit, sha256 } from "./provenance.ts";
import { hasBegun } from "./run_begun.ts";
import {
  checkName,
  checkNoChanges,
  headerChanges,
  parseFolder,
  readHeader,
  type RunHeader,
  takeLock,
  writeWhole,
} from "./run_folder.ts";
import type { ArtifactRow, CheckpointRow, EvaluationRow, ProbeRow } from "./run_rows.ts";
import { closeRunDatabase, openRunDatabase } from "./run_schema.ts";

/** The machine and command of one process, as far as known. */
export interface SessionInfo {
  adapter?: string;
  /** Whether the adapter runs on the CPU. */
  software?: boolean;
  limits?: Json;
  features?: Json;
  kernelChoices?: Json;
  budgetBytes?: number;
  ranks?: number;
  argv?: readonly string[];
}

/** Options of {@linkcode openRun}. */
export interface RunOptions {
  /** Go on with an existing run; a new one is started if there is none. Default false. */
  resume?: boolean;
  /** Last step that a resumed session keeps; rows after it are replaced. Default −1: none is kept. */
  fromStep?: number;
  /**
   * Resume although settings or data changed: the changes are noted and recorded as an event, and the new settings
   * become the run's. Absent: there is no such choice, and none is named where a change is refused.
   */
  allowConfigChange?: boolean;
  /** Settings that may change without a word; see {@link headerChanges}. Default: steps and how often is saved. */
  freeSettings?: readonly string[];
  session?: SessionInfo;
  /** Hash of the data manifest. */
  dataSha256?: string;
  /** Repository root, for the hash of the sources and the commit. Default: this file's repository. */
  root?: string;
  /** Clock, for tests. */
  now?: () => Date;
}

/** An open run; close it, or leave its `using` block, to end the session. */
export interface Run extends Disposable {
  readonly dir: string;
  readonly header: RunHeader;
  /** Number of this session, from 1. */
  readonly session: number;
  /** What the user should know about a resumed run: other sources, other adapter. */
  readonly notes: readonly string[];
  /** Logs values at one step; each name's steps must rise. Written within a second. */
  metrics(step: number, values: Readonly<Record<string, number>>): void;
  event(kind: string, detail: Json, at?: { step?: number; ms?: number }): void;
  /** Records a checkpoint; one recorded earlier under the same path was replaced by it. */
  checkpoint(row: CheckpointRow): void;
  /** Notes that checkpoints are gone. @param paths as they were recorded */
  checkpointsGone(paths: readonly string[]): void;
  /** Stores an evaluation with its items and returns its number. */
  evaluation(row: EvaluationRow): number;
  probe(row: ProbeRow): void;
  artifact(row: ArtifactRow): void;
  /** Appends a line to log.txt. */
  log(line: string): void;
  /** Writes buffered metrics now. */
  flush(): void;
  /** Ends the session; a second call does nothing. */
  close(end: { exitCode: number; reason: string }): void;
}

/**
 * Opens a run for writing. A run that failed before it held anything is begun again, whatever its settings were.
 *
 * Needs read permission on the repository and read and write permission on `dir`.
 *
 * @param dir ends in `<study>/<arm>/seed-<n>`
 * @param config resolved settings, JSON values only
 * @throws {UsageError} If the name is not of that form, the run exists and `resume` is not set, or it
 *   does and the settings differ
 * @throws {BusyError} If another process, or this one, has the run open
 * @throws {InputError} If the folder's record is damaged or of a newer format
 * @throws {ResourceError} If the folder cannot be written
 */
export function openRun<T extends object>(
  dir: string,
  config: ResolvedConfig<T>,
  options: RunOptions = {},
): Run {
  const now = options.now ?? (() => new Date());
  const root = options.root ?? decodeURIComponent(new URL("../..", import.meta.url).pathname);
  const values = config.values as Json;
  const header: RunHeader = {
    format: 1,
    ...parseFolder(dir),
    config: values,
    origins: config.origins,
    configSha256: sha256(canonicalJson(values)),
    sourcesSha256: hashSources(root),
    commit: readCommit(root),
    dataSha256: options.dataSha256 ?? null,
  };
  const lock = takeLock(dir, now);
  try {
    const old = hasBegun(dir) ? readHeader(dir) : null;
    if (old !== null && !options.resume) {
      throw new UsageError(`Cannot start ${dir}: this run exists`, {
        help: "Go on with it by --resume, or use another folder",
      });
    }
    const changes = old === null ? [] : headerChanges(old, header, options.freeSettings);
    if (!options.allowConfigChange) checkNoChanges(dir, changes, changeHelp(options));
    const { db, journal } = openRunDatabase(`${dir}/run.sqlite`);
    try {
      return new OpenRun({ dir, header, old, changes, lock, db, journal, options, now });
    } catch (error) {
      db.close();
      throw error;
    }
  } catch (error) {
    lock.close();
    throw error;
  }
}

function changeHelp({ allowConfigChange }: RunOptions): string {
  const allow = allowConfigChange === undefined
    ? ""
    : " allow the change by --allow-config-change,";
  return `Resume with the old settings,${allow} or start another run by --run`;
}

class OpenRun implements Run {
  readonly dir: string;
  readonly header: RunHeader;
  readonly session: number;
  readonly notes: string[] = [];
  readonly #db: DatabaseSync;
  readonly #lock: Deno.FsFile;
  readonly #log: Deno.FsFile;
  readonly #now: () => Date;
  readonly #insertMetric: ReturnType<DatabaseSync["prepare"]>;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #lastStep = new Map<string, number>();
  #buffer: [name: string, step: number, value: number][] = [];
  #closed = false;
  /** What the disk said against metrics that were to be written meanwhile. */
  #refusal: ResourceError | undefined;

  constructor(parts: {
    dir: string;
    header: RunHeader;
    old: RunHeader | null;
    changes: readonly string[];
    lock: Deno.FsFile;
    db: DatabaseSync;
    journal: string;
    options: RunOptions;
    now: () => Date;
  }) {
    const { dir, header, old, changes, lock, db, journal, options, now } = parts;
    [this.dir, this.header, this.#db, this.#lock, this.#now] = [dir, header, db, lock, now];
    const before = db.prepare("SELECT adapter FROM session ORDER BY id DESC LIMIT 1").get();
    this.session = this.#startSession(options);
    this.#insertMetric = db.prepare(
      "INSERT INTO metric (name, step, session, value, flag) VALUES (?, ?, ?, ?, ?)",
    );
    this.#log = Deno.openSync(`${dir}/log.txt`, { append: true, create: true });
    this.log(`session ${this.session} starts`);

    const note = (kind: string, text: string, detail: Json) => {
      this.notes.push(text);
      this.event(kind, detail);
      this.log(text);
    };
    if (journal !== "wal") {
      note("journal", `this disk refuses SQLite's WAL; the journal is ${journal}`, { journal });
    }
    if (changes.length > 0) {
      note("config changed", `settings changed: ${changes.join(", ")}`, {
        changes: [...changes],
        from: old!.configSha256,
        to: header.configSha256,
      });
    }
    if (old !== null && old.sourcesSha256 !== header.sourcesSha256) {
      note("sources changed", "the sources changed since the run was last open", {
        from: old.sourcesSha256,
        to: header.sourcesSha256,
      });
    }
    const [from, to] = [before?.adapter ?? null, options.session?.adapter ?? null];
    if (from !== null && to !== null && from !== to) {
      note("adapter changed", `the adapter was ${from}, now it is ${to}`, {
        from: String(from),
        to,
      });
    }
    // After the events: what run.json no longer says must be in the record by then.
    writeWhole(`${dir}/run.json`, JSON.stringify(header, null, 2) + "\n");
    this.#timer = setInterval(() => {
      try {
        this.flush();
      } catch (cause) {
        if (!(cause instanceof ResourceError)) throw cause;
        this.#refusal = cause; // nobody awaits a timer: whoever writes next is told
      }
    }, 1000);
    this.#timer.unref(); // an open run does not keep the process alive
  }

  #startSession({ session = {}, fromStep = -1 }: RunOptions): number {
    const json = (value: Json | undefined) => value === undefined ? null : JSON.stringify(value);
    const row = {
      started: this.#now().toISOString(),
      from_step: fromStep,
      commit_hash: this.header.commit,
      sources_sha256: this.header.sourcesSha256,
      deno: Deno.version.deno,
      os: `${Deno.build.os} ${Deno.build.arch}`,
      adapter: session.adapter ?? null,
      software: session.software === undefined ? null : Number(session.software),
      limits: json(session.limits),
      features: json(session.features),
      kernel_choices: json(session.kernelChoices),
      budget_bytes: session.budgetBytes ?? null,
      ranks: session.ranks ?? null,
      argv: json(session.argv as Json | undefined),
    };
    return this.#insert("session", row);
  }

  metrics(step: number, values: Readonly<Record<string, number>>): void {
    this.#check("log metrics");
    if (!(Number.isSafeInteger(step) && step >= 0)) {
      throw new RangeError(`Cannot log metrics at step ${step}: not an integer ≥ 0`);
    }
    for (const [name, value] of Object.entries(values)) {
      if (!/^[a-zA-Z0-9][\w./-]*$/.test(name)) {
        throw new RangeError(`Cannot log a metric named ${JSON.stringify(name)}`);
      }
      if (typeof value !== "number") {
        throw new TypeError(`Cannot log ${name} at step ${step}: ${typeof value} is not a number`);
      }
      const last = this.#lastStep.get(name) ?? -1;
      if (step <= last) {
        throw new RangeError(`Cannot log ${name} at step ${step}: step ${last} is logged already`);
      }
      this.#lastStep.set(name, step);
      this.#buffer.push([name, step, value]);
    }
  }

  event(kind: string, detail: Json, at: { step?: number; ms?: number } = {}): void {
    this.#check("record an event");
    const { step = null, ms = null } = at;
    this.#insert("event", {
      session: this.session,
      step,
      ms,
      kind,
      detail: JSON.stringify(detail),
    });
  }

  checkpoint({ step, path, bytes, sha256 }: CheckpointRow): void {
    this.flush();
    this.#transaction(() => {
      this.checkpointsGone([path]);
      const row = { step, session: this.session, path, bytes, sha256, deleted: 0 };
      this.#insert("checkpoint", row, "INSERT OR REPLACE");
    });
  }

  checkpointsGone(paths: readonly string[]): void {
    this.#check("note that checkpoints are gone");
    const gone = this.#db.prepare("UPDATE checkpoint SET deleted = 1 WHERE path = ?");
    for (const path of paths) gone.run(path);
  }

  evaluation({ items = [], options, ...row }: EvaluationRow): number {
    this.#check("record an evaluation");
    checkName("benchmark", row.benchmark);
    checkFinite(row.benchmark, row);
    const prepared = this.#db.prepare(
      "INSERT INTO item (evaluation, item, prompt_sha256, answer, target, score, error) " +
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    return this.#transaction(() => {
      const id = this.#insert("evaluation", {
        session: this.session,
        ...row,
        options: options === undefined ? null : JSON.stringify(options),
      });
      for (const { item, promptSha256, answer, target, score, error } of items) {
        if ((score === undefined) === (error === undefined) || Number.isNaN(score)) {
          throw new TypeError(
            `Cannot record item ${item} of ${row.benchmark}: it needs a score or an error, not both`,
          );
        }
        prepared.run(
          id,
          item,
          promptSha256 ?? null,
          answer ?? null,
          target ?? null,
          score ?? null,
          error ?? null,
        );
      }
      return id;
    });
  }

  probe(row: ProbeRow): void {
    this.#check("record a probe");
    checkFinite(`probe ${row.site}`, row);
    this.#insert("probe", { ...row }, "INSERT OR REPLACE");
  }

  artifact({ path, kind, sha256, madeFrom }: ArtifactRow): void {
    this.#check("record an artifact");
    this.#insert("artifact", { path, kind, sha256, made_from: madeFrom }, "INSERT OR REPLACE");
  }

  log(line: string): void {
    this.#check("write to the log");
    const bytes = new TextEncoder().encode(`${this.#now().toISOString()} ${line}\n`);
    writingRecord(this.dir, () => {
      for (let at = 0; at < bytes.length;) at += this.#log.writeSync(bytes.subarray(at));
    });
  }

  flush(): void {
    this.#check("flush metrics");
    if (this.#buffer.length === 0) return;
    this.#transaction(() => {
      for (const [name, step, value] of this.#buffer) {
        const flag = Number.isNaN(value)
          ? "nan"
          : value === Infinity
          ? "inf"
          : value === -Infinity
          ? "-inf"
          : null;
        this.#insertMetric.run(name, step, this.session, flag === null ? value : null, flag);
      }
    });
    this.#buffer = [];
  }

  close({ exitCode, reason }: { exitCode: number; reason: string }): void {
    if (this.#closed) return;
    try {
      this.flush();
      writingRecord(
        this.dir,
        () =>
          this.#db.prepare("UPDATE session SET ended = ?, exit_code = ?, reason = ? WHERE id = ?")
            .run(this.#now().toISOString(), exitCode, reason, this.session),
      );
      this.log(`session ${this.session} ends with ${exitCode}: ${reason}`);
    } finally {
      this.#closed = true;
      clearInterval(this.#timer);
      closeRunDatabase(this.#db);
      this.#log.close();
      this.#lock.truncateSync(0);
      this.#lock.close(); // gives up the lock
    }
  }

  [Symbol.dispose](): void {
    this.close({ exitCode: EXIT.fault, reason: "left without being closed" });
  }

  /** Inserts one row by column names (all ours) with bound values; returns its number. */
  #insert(
    table: string,
    row: Record<string, string | number | null>,
    verb: "INSERT" | "INSERT OR REPLACE" = "INSERT",
  ): number {
    const columns = Object.keys(row);
    const marks = columns.map(() => "?").join(", ");
    const statement = this.#db.prepare(
      `${verb} INTO ${table} (${columns.join(", ")}) VALUES (${marks})`,
    );
    const { lastInsertRowid } = writingRecord(
      this.dir,
      () => statement.run(...Object.values(row)),
    );
    return Number(lastInsertRowid);
  }

  #transaction<T>(write: () => T): T {
    return writingRecord(this.dir, () => {
      this.#db.exec("BEGIN IMMEDIATE");
      try {
        const result = write();
        this.#db.exec("COMMIT");
        return result;
      } catch (error) {
        if (this.#db.isTransaction) this.#db.exec("ROLLBACK"); // a full disk ends it by itself
        throw error;
      }
    });
  }

  #check(action: string): void {
    if (this.#closed) throw new TypeError(`Cannot ${action}: run ${this.dir} is closed`);
    const refusal = this.#refusal;
    this.#refusal = undefined;
    if (refusal) throw refusal;
  }
}

function checkFinite(what: string, row: { value: number; low: number; high: number }): void {
  const { value, low, high } = row;
  if (![value, low, high].every(Number.isFinite)) {
    throw new RangeError(`Cannot record ${what}: ${value} [${low}, ${high}] is not finite`);
  }
}
