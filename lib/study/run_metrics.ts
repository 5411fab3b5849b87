// One metric of a run as a curve: read without the rest of the record, smoothed, and thinned to what a figure can show.

import { nearestName } from "../data/edit_distance.ts";
import { UsageError } from "../errors.ts";
import type { MetricColumns } from "./read_run.ts";
import { NOT_FINITE, openRecord } from "./run_summary.ts";

/** Last segments of names that are losses, in the order they are shown. */
const LOSSES = ["text", "flow", "loss", "ce", "mse", "kl", "reconstruction", "contrastive"];

/** First segments of names that end like a loss and are none of the training: `drawn/text` counts samples. */
const NO_LOSSES = /^(validation|val|test|eval|held-out|drawn)/;

/** The training losses among names of metrics: not those of validations, nor counts, norms and rates. */
export function lossNames(names: readonly string[]): string[] {
  const rank = (name: string) => LOSSES.indexOf(name.split(/[./]/).at(-1)!);
  return names.filter((name) => rank(name) >= 0 && !NO_LOSSES.test(name))
    .sort((a, b) => rank(a) - rank(b));
}

/** The metrics of a run that a name may stand for: itself, or those that end in it after a dot or slash. */
function likely(wanted: string, names: readonly string[]): string[] {
  if (names.includes(wanted)) return [wanted];
  return names.filter((name) => name.endsWith(`.${wanted}`) || name.endsWith(`/${wanted}`));
}

/** The metric that a name stands for, by its end if need be; undefined if none or several do. */
export function metricLike(wanted: string, names: readonly string[]): string | undefined {
  const found = likely(wanted, names);
  return found.length === 1 ? found[0] : undefined;
}

/** Why {@linkcode metricLike} finds none. */
export function noMetric(wanted: string, names: readonly string[], run: string): UsageError {
  const found = likely(wanted, names);
  if (found.length > 1) {
    return new UsageError(
      `Cannot choose metric ${wanted} of ${run}: ${found.join(" and ")} end in it`,
      {
        help: "give the whole name",
      },
    );
  }
  const near = nearestName(wanted, names);
  return new UsageError(`Cannot find metric ${wanted} in ${run}`, {
    help: near
      ? `the nearest name is ${near}`
      : names.length === 0
      ? "the run has logged nothing yet"
      : `its metrics are ${names.join(", ")}`,
  });
}

/**
 * Metrics of a run, by name; those it has not are left out.
 *
 * @throws {InputError} If there is no run, or its record is damaged
 */
export function readMetrics(dir: string, names: readonly string[]): Record<string, MetricColumns> {
  const db = openRecord(dir);
  try {
    const rows = db.prepare(
      "SELECT step, value, flag FROM metric_now WHERE name = ? ORDER BY step",
    );
    const found: Record<string, MetricColumns> = {};
    for (const name of names) {
      const columns: MetricColumns = { steps: [], values: [] };
      for (const { step, value, flag } of rows.iterate(name)) {
        columns.steps.push(Number(step));
        columns.values.push(flag === null ? Number(value) : NOT_FINITE[String(flag)]);
      }
      if (columns.steps.length > 0) found[name] = columns;
    }
    return found;
  } finally {
    db.close();
  }
}

/**
 * The mean of each value and those before it, `window` values in all, fewer at the beginning; values that are not
 * finite are left out of it.
 */
export function smoothed(values: readonly number[], window: number): number[] {
  return values.map((_, i) => {
    // Summed anew each time: a running sum would keep the rounding of one huge value for good.
    const near = values.slice(Math.max(0, i - window + 1), i + 1).filter(Number.isFinite);
    return near.length === 0 ? NaN : near.reduce((sum, v) => sum + v, 0) / near.length;
  });
}

/** A curve of at most `most` points: of each stretch its first, least, greatest and last, so that no peak is lost. */
export function thinned({ steps, values }: MetricColumns, most: number): MetricColumns {
  if (steps.length <= most) return { steps, values };
  const stretches = Math.max(1, Math.floor(most / 4));
  const keep = new Set<number>();
  for (let s = 0; s < stretches; s++) {
    const from = Math.floor(s * steps.length / stretches);
    const to = Math.floor((s + 1) * steps.length / stretches);
    let [low, high] = [from, from];
    for (let i = from; i < to; i++) {
      if (values[i] < values[low]) low = i;
      if (values[i] > values[high]) high = i;
    }
    for (const i of [from, low, high, to - 1]) keep.add(i);
  }
  const kept = [...keep].sort((a, b) => a - b);
  return { steps: kept.map((i) => steps[i]), values: kept.map((i) => values[i]) };
}
