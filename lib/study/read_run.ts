// Reading run records back as plain data, for figures and comparisons. Needs read permission only, and
// works while the run is being written.

import { InputError } from "../errors.ts";
import type { Json } from "./config.ts";
import type { ArmRecord, ItemScores } from "./effect.ts";
import { readHeader, type RunHeader } from "./run_folder.ts";
import type { ArtifactRow, CheckpointRow, EvaluationRow, ItemRow, ProbeRow } from "./run_rows.ts";
import { readRunDatabase } from "./run_schema.ts";

/** One process that wrote the run. */
export interface SessionRecord {
  id: number;
  started: string;
  /** Null while it runs, or if it was killed. */
  ended: string | null;
  exitCode: number | null;
  reason: string | null;
  fromStep: number;
  commit: string | null;
  sourcesSha256: string;
  adapter: string | null;
  software: boolean | null;
}

/** One metric as columns; NaN and ±Infinity are restored. */
export interface MetricColumns {
  steps: number[];
  values: number[];
}

/** Everything a run recorded. */
export interface RunRecord {
  dir: string;
  header: RunHeader;
  sessions: SessionRecord[];
  /** Rows that count: those that no later session has replaced. */
  metrics: Record<string, MetricColumns>;
  events: { session: number; step: number | null; ms: number | null; kind: string; detail: Json }[];
  checkpoints: (CheckpointRow & { session: number; deleted: boolean })[];
  evaluations: (EvaluationRow & { id: number; session: number; items: ItemRow[] })[];
  probes: ProbeRow[];
  artifacts: ArtifactRow[];
  /** Whether its last session ended with exit code 0. */
  finished: boolean;
}

/**
 * Reads a run folder.
 *
 * @throws {InputError} If there is no run in it, or its record is damaged or of a newer format
 */
export function readRun(dir: string): RunRecord {
  const header = readHeader(dir);
  if (header === null) throw new InputError(`Cannot read a run from ${dir}: it has no run.json`);
  const db = readRunDatabase(`${dir}/run.sqlite`);
  try {
    // deno-lint-ignore no-explicit-any
    const all = (sql: string) => db.prepare(sql).all() as any[];
    db.exec("BEGIN"); // one state of a run that may be growing
    const sessions = all(
      "SELECT id, started, ended, exit_code AS exitCode, reason, from_step AS fromStep, " +
        'commit_hash AS "commit", sources_sha256 AS sourcesSha256, adapter, software ' +
        "FROM session ORDER BY id",
    ).map((row) => ({ ...row, software: row.software === null ? null : row.software === 1 }));

    const metrics: Record<string, MetricColumns> = Object.create(null);
    const flags: Record<string, number> = { nan: NaN, inf: Infinity, "-inf": -Infinity };
    for (
      const { name, step, value, flag } of all(
        "SELECT name, step, value, flag FROM metric_now ORDER BY name, step",
      )
    ) {
      const columns = metrics[name] ??= { steps: [], values: [] };
      columns.steps.push(step);
      columns.values.push(flag === null ? value : flags[flag]);
    }

    const itemsOf = new Map<number, ItemRow[]>();
    for (
      const { evaluation, ...row } of all(
        "SELECT evaluation, item, prompt_sha256 AS promptSha256, answer, target, score, error " +
          "FROM item ORDER BY evaluation, item",
      )
    ) {
      const items = itemsOf.get(evaluation) ?? [];
      items.push(present(row) as unknown as ItemRow);
      itemsOf.set(evaluation, items);
    }
    const evaluations = all("SELECT * FROM evaluation ORDER BY id").map((row) => ({
      ...present({ ...row, options: row.options === null ? null : JSON.parse(row.options) }),
      items: itemsOf.get(row.id) ?? [],
    })) as RunRecord["evaluations"];

    return {
      dir,
      header,
      sessions,
      metrics,
      events: all("SELECT session, step, ms, kind, detail FROM event ORDER BY id")
        .map((row) => ({ ...row, detail: JSON.parse(row.detail) })),
      checkpoints: all(
        "SELECT step, session, path, bytes, sha256, deleted FROM checkpoint ORDER BY step, session",
      ).map((row) => ({ ...row, deleted: row.deleted === 1 })),
      evaluations,
      probes: all("SELECT * FROM probe ORDER BY site, step, target, kind, control, split")
        .map((row) => ({ ...row })),
      artifacts: all("SELECT path, kind, sha256, made_from AS madeFrom FROM artifact ORDER BY path")
        .map((row) => ({ ...row })),
      finished: sessions.at(-1)?.exitCode === 0,
    };
  } finally {
    db.close();
  }
}

/**
 * Runs as records for `compareArms`: per benchmark its last evaluation, under the benchmark's name, with
 * its items. Items named `image/question` are grouped by image. An item that failed scores 0.
 *
 * @param runs any runs; each gives one record
 * @param options `split` and `weights` to take, default `test` and `raw`
 */
export function armRecords(
  runs: readonly RunRecord[],
  options: { split?: string; weights?: "raw" | "ema" } = {},
): ArmRecord[] {
  const { split = "test", weights = "raw" } = options;
  return runs.map(({ header, evaluations }) => {
    const metrics: Record<string, number> = {};
    const items: Record<string, ItemScores> = {};
    for (const row of evaluations) {
      if (row.split !== split || row.weights !== weights) continue;
      metrics[row.benchmark] = row.value;
      delete items[row.benchmark];
      if (row.items.length === 0) continue;
      const ids = row.items.map((item) => item.item);
      const scores = row.items.map((item) => item.score ?? 0);
      const groups = ids.map((id) => id.split("/")[0]);
      const grouped = new Set(groups).size < ids.length;
      items[row.benchmark] = { ids, scores, ...(grouped ? { groups } : {}) };
    }
    return { arm: header.arm, seed: header.seed, metrics, items };
  });
}

/** The fields that are not null. */
function present(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
}
