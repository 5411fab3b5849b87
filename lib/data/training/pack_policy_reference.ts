// Which samples go into one packed sequence, exactly as the reference's loader decides it, bugs included: for
// comparing with it, not for training.

import type { DrawSample, Held, PackLimits, Sized } from "./pack_policy.ts";

/**
 * Fills one sequence; `held.buffer` is changed. As in BAGEL's data loader,
 * - the sample in hand when the sequence is full is lost,
 * - mandatory samples may have up to `maxPerSample - 1` tokens, others `maxPerSample`,
 * - mandatory samples are not measured against `max`, so that a sequence may exceed it.
 *
 * @param maxPerSample `draw` gives no sample with more tokens
 * @param onLost called with the sample that is lost
 */
export async function takeBatchAsReference<T extends Sized>(
  held: Held<T>,
  limits: PackLimits & { maxPerSample: number },
  draw: DrawSample<T>,
  onLost: (sample: T) => void = () => {},
): Promise<T[]> {
  const batch: T[] = [];
  let length = 0;
  const add = (sample: T) => {
    batch.push(sample);
    length += sample.length;
  };
  for (const task of limits.mandatory) {
    let sample = await draw(task);
    while (!(sample.tokens < limits.maxPerSample)) sample = await draw(task);
    add(sample);
  }
  while (true) {
    const waiting = length < limits.preferBufferBefore ? held.buffer.shift() : undefined;
    const sample = waiting ?? await draw();
    if (length + sample.tokens > limits.max) {
      if (!waiting && held.buffer.length < limits.buffer) {
        held.buffer.push(sample);
        continue;
      }
      onLost(sample);
      return batch;
    }
    add(sample);
    if (length >= limits.expected) return batch;
  }
}
