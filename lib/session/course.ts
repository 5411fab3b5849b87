// The course of a training out of its run record, as figures take it.

import { TASKS } from "../data/training/record.ts";
import type { LossSeries, StageCourse, StagedCourse } from "../show/stage_losses.ts";
import type { RunRecord } from "../study/read_run.ts";
import { InputError } from "../errors.ts";

/**
 * Losses, stages and mixes of a run.
 *
 * @throws {InputError} If the run was not written by a training
 */
export function courseOf(run: RunRecord): StagedCourse {
  const begun = new Map<number, StageEvent>(); // a resumed stage is told again, with its config as it is now
  for (const { kind, detail } of run.events) {
    if (kind === "stage") {
      begun.set((detail as unknown as StageEvent).index, detail as unknown as StageEvent);
    }
  }
  if (begun.size === 0) {
    throw new InputError(`Cannot draw the course of ${run.dir}: no stage was begun in it`, {
      help: "Give the folder of a run that deno task train has made steps in",
    });
  }
  const last = Math.max(0, ...run.metrics.norm?.steps ?? []);
  const stages = [...begun.values()].filter(({ from }) => from < last || from === 0)
    .map((stage) => stageCourse(run, stage, last));
  const { study, arm, seed } = run.header;
  const session = run.sessions.at(-1);
  const commit = session?.commit ? `, commit ${session.commit.slice(0, 7)}` : "";
  const text = lossSeries(run, "text");
  const flow = lossSeries(run, "flow");
  return {
    title: `${study}, ${arm}, seed ${seed}`,
    ...(text ? { text } : {}),
    ...(flow ? { flow } : {}),
    stages,
    provenance: `${session?.adapter ?? "unknown adapter"}${
      session?.software ? " (software)" : ""
    }${commit}.`,
  };
}

interface StageEvent {
  index: number;
  name: string;
  from: number;
  to: number;
  mix: Record<string, number>;
}

function stageCourse(
  run: RunRecord,
  { name, from, to, mix }: StageEvent,
  last: number,
): StageCourse {
  const end = Math.min(to, last);
  const drawn = Object.fromEntries(TASKS.map((task) => {
    const { steps, values } = run.metrics[`drawn/${task}`] ?? { steps: [], values: [] };
    const at = steps.findLastIndex((step) => step > from && step <= end);
    return [task, at < 0 ? 0 : values[at]];
  }));
  return { name, from, to: end, asked: shares(mix), drawn: shares(drawn) };
}

function shares(weights: Record<string, number>): Record<string, number> {
  const total = Object.values(weights).reduce((a, b) => a + b, 0);
  if (total === 0) return {};
  return Object.fromEntries(Object.entries(weights).map(([key, weight]) => [key, weight / total]));
}

function lossSeries(run: RunRecord, name: "text" | "flow"): LossSeries | undefined {
  const logged = run.metrics[name];
  if (!logged) return undefined;
  const heldOut = run.metrics[`held-out/${name}`] ?? { steps: [], values: [] };
  return { ...logged, heldOut };
}
