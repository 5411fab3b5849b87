// Which samples go into one packed sequence: the reference's rules without their bugs. The sample in hand when
// a sequence is full opens the next one, and a sample that must be there is measured like any other.

import type { Task } from "./record.ts";

/** A sample as the rules see it. */
export interface Sized {
  task: Task;
  /** Tokens if nothing is dropped: what it may take. */
  tokens: number;
  /** Tokens with what dropout leaves: what it takes. */
  length: number;
}

/** Limits in tokens; `max` ≥ every sample. */
export interface PackLimits {
  /** A sequence with this many is done. */
  expected: number;
  /** No sequence has more. */
  max: number;
  /** Shorter sequences take the oldest sample that had not fitted before. */
  preferBufferBefore: number;
  /** Most samples that wait because they did not fit. */
  buffer: number;
  /** Tasks that each sequence begins with a sample of. */
  mandatory: readonly Task[];
}

/** What waits between two sequences. */
export interface Held<T> {
  buffer: T[];
  /** The sample that ended a sequence by not fitting. */
  hand: T | null;
}

/** Where samples come from; with a task, the next one of that task that is drawn apart. */
export type DrawSample<T> = (task?: Task) => Promise<T>;

/**
 * Fills one sequence; `held` is changed. First the sample in hand, then one of each mandatory task, then the
 * buffer or new samples until `expected` is reached. A new sample that does not fit waits in the buffer; if that is
 * full, or the sample came from it, the sequence ends and the sample opens the next.
 *
 * @returns at least one sample
 */
export async function takeBatch<T extends Sized>(
  held: Held<T>,
  limits: PackLimits,
  draw: DrawSample<T>,
): Promise<T[]> {
  const batch: T[] = [];
  let length = 0;
  const fits = (sample: T) => length + sample.tokens <= limits.max;
  const add = (sample: T) => {
    batch.push(sample);
    length += sample.length;
  };
  if (held.hand) add(held.hand);
  held.hand = null;
  for (const task of limits.mandatory) {
    if (batch.some((sample) => sample.task === task)) continue;
    const sample = await draw(task);
    if (!fits(sample)) {
      held.hand = sample;
      return batch;
    }
    add(sample);
  }
  while (length < limits.expected) {
    const waiting = length < limits.preferBufferBefore ? held.buffer.shift() : undefined;
    const sample = waiting ?? await draw();
    if (fits(sample)) add(sample);
    else if (!waiting && held.buffer.length < limits.buffer) held.buffer.push(sample);
    else {
      held.hand = sample;
      break;
    }
  }
  return batch;
}
