// What a run is in one row: how far it got, how it ended, where it ran. Read from its record with a few queries,
// without its metrics, so that many runs can be listed at once.

import type { DatabaseSync } from "node:sqlite";
import type { Json } from "./config.ts";
import { readHeader, type RunHeader } from "./run_folder.ts";
import { readRunDatabase } from "./run_schema.ts";
import { InputError } from "../errors.ts";

/** How a run stands. */
export type RunState = "running" | "finished" | "interrupted" | "failed" | "damaged";

/** The last logged value of a metric, and how many there are. */
export interface MetricSummary {
  name: string;
  /** Logged steps. */
  rows: number;
  /** Last logged step, and the value there; NaN and ±Infinity included. */
  step: number;
  value: number;
  /** Least value, and its step; null if none is finite. */
  least: number | null;
  leastStep: number | null;
}

/** One run in short. */
export interface RunSummary {
  header: RunHeader;
  sessions: number;
  /** When the first session started. */
  started: string;
  /** When the last session ended; null while it runs, or if it was killed. */
  ended: string | null;
  exitCode: number | null;
  reason: string | null;
  /** Last logged step; 0 before the first. */
  step: number;
  /** Steps that the settings ask for; null if they do not say. */
  steps: number | null;
  /** Seconds that its sessions took; the last one counts until the record was last written if it has no end. */
  seconds: number;
  adapter: string | null;
  software: boolean | null;
  ranks: number | null;
  commit: string | null;
  metrics: MetricSummary[];
  checkpoints: { step: number; path: string; bytes: number }[];
  evaluations: {
    step: number;
    benchmark: string;
    version: number;
    split: string;
    weights: string;
    n: number;
    value: number;
    low: number;
    high: number;
  }[];
}

/**
 * Reads a run folder in short.
 *
 * @throws {InputError} If there is no run in it, or its record is damaged or of a newer format
 */
export function summarizeRun(dir: string): RunSummary {
  const header = readHeader(dir);
  if (header === null) throw new InputError(`Cannot read a run from ${dir}: it has no run.json`);
  const db = openRecord(dir);
  try {
    db.exec("BEGIN"); // one state of a run that may be growing
    return summary(db, header, lastWrite(dir));
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError(`Cannot read ${dir}/run.sqlite: ${(cause as Error).message}`, { cause });
  } finally {
    db.close();
  }
}

/**
 * A run's database for reading.
 *
 * @throws {InputError} If it is missing or no run database
 */
export function openRecord(dir: string): DatabaseSync {
  const path = `${dir}/run.sqlite`;
  try {
    return readRunDatabase(path);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** When the record was last written, ISO 8601. */
function lastWrite(dir: string): string {
  const times = ["run.sqlite", "run.sqlite-wal"].map((file) => {
    try {
      return Deno.statSync(`${dir}/${file}`).mtime?.getTime() ?? 0;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return 0;
      throw error;
    }
  });
  return new Date(Math.max(...times)).toISOString();
}

function summary(db: DatabaseSync, header: RunHeader, written: string): RunSummary {
  // deno-lint-ignore no-explicit-any
  const all = (sql: string) => db.prepare(sql).all() as any[];
  const sessions = all("SELECT * FROM session ORDER BY id");
  if (sessions.length === 0) throw new InputError("Cannot sum up a run: it has no session");
  const [first, last] = [sessions[0], sessions.at(-1)];
  const metrics = metricSummaries(db);
  return {
    header,
    sessions: sessions.length,
    started: first.started,
    ended: last.ended,
    exitCode: last.exit_code,
    reason: last.reason,
    step: Math.max(0, ...metrics.map(({ step }) => step)),
    steps: plannedSteps(header.config),
    seconds: sessions.reduce(
      (n, { started, ended }, i) =>
        n + secondsOf(started, ended ?? (i === sessions.length - 1 ? written : null)),
      0,
    ),
    adapter: last.adapter,
    software: last.software === null ? null : last.software === 1,
    ranks: last.ranks,
    commit: last.commit_hash,
    metrics,
    checkpoints: all("SELECT step, path, bytes FROM checkpoint WHERE deleted = 0 ORDER BY step")
      .map((row) => ({ ...row })),
    evaluations: all(
      "SELECT step, benchmark, version, split, weights, n, value, low, high FROM evaluation ORDER BY id",
    ).map((row) => ({ ...row })),
  };
}

const secondsOf = (from: string, to: string | null) =>
  to === null ? 0 : Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);

/** The values a flag stands for: SQLite keeps NaN as NULL. */
export const NOT_FINITE: Readonly<Record<string, number>> = {
  nan: NaN,
  inf: Infinity,
  "-inf": -Infinity,
};

function metricSummaries(db: DatabaseSync): MetricSummary[] {
  // With one max() or min(), SQLite takes the other columns from the row that has it.
  const last = db.prepare(
    "SELECT name, max(step) AS step, value, flag, count(*) AS rows FROM metric_now GROUP BY name ORDER BY name",
  ).all();
  const least = new Map(
    db.prepare("SELECT name, min(value) AS value, step FROM metric_now GROUP BY name").all()
      .map((row) => [row.name, row]),
  );
  return last.map(({ name, step, value, flag, rows }) => {
    const low = least.get(name);
    return {
      name: String(name),
      rows: Number(rows),
      step: Number(step),
      value: flag === null ? Number(value) : NOT_FINITE[String(flag)],
      least: low?.value === null || low === undefined ? null : Number(low.value),
      leastStep: low?.value === null || low === undefined ? null : Number(low.step),
    };
  });
}

/** Steps that settings ask for: `steps`, or those of all stages. */
export function plannedSteps(config: Json): number | null {
  const stages = stagesOf(config);
  if (stages.length > 0) return stages.reduce((n, { steps }) => n + steps, 0);
  const steps = typeof config === "object" && config !== null && !Array.isArray(config)
    ? config.steps
    : undefined;
  return typeof steps === "number" ? steps : null;
}

/** The stages of a curriculum in settings; none if there is no curriculum. */
export function stagesOf(config: Json): { name: string; steps: number }[] {
  if (typeof config !== "object" || config === null || Array.isArray(config)) return [];
  const { stages } = config;
  if (!Array.isArray(stages)) return [];
  return stages.flatMap((stage) => {
    if (typeof stage !== "object" || stage === null || Array.isArray(stage)) return [];
    const { name, steps } = stage;
    return typeof name === "string" && typeof steps === "number" ? [{ name, steps }] : [];
  });
}

/**
 * How a run stands: whoever writes it holds its lock; without an end and without a writer it was killed.
 *
 * @param locked whether a process holds the run
 */
export function runState(
  { ended, exitCode }: Pick<RunSummary, "ended" | "exitCode">,
  locked: boolean,
): RunState {
  if (ended === null) return locked ? "running" : "interrupted";
  if (exitCode === 0) return "finished";
  return exitCode === 130 || exitCode === 143 ? "interrupted" : "failed";
}

/**
 * Whether a process writes a run. Asks for a shared lock and gives it back at once; a writer that starts in
 * between is refused as if the run were in use, so ask only of runs that have no end.
 */
export function isLocked(dir: string): boolean {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(`${dir}/lock`, { read: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  try {
    return !file.tryLockSync(false);
  } finally {
    file.close();
  }
}
