// Long work in steps: a generator that records some work and yields how much it was. Run to its end at once, or
// with waits between the steps, so that progress can be shown and the work can be called off. Either way what
// was recorded is submitted in portions: drivers end a submission of seconds.

import { noGrad } from "../autograd.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../tensor.ts";
import { MOST_WORK } from "./conv2d_bands.ts";

/** Yields the multiply-adds recorded since the last step. Nothing in it is differentiable. */
export type Steps<T> = Generator<number, T, void>;

/** Waits of a run, about: each costs some 11 ms in Deno however short it is. */
const WAITS = 32;

/** How far long work is. */
export interface StepsProgress {
  /** Multiply-adds done, and all of them. */
  done: number;
  total: number;
}

/** Options of {@link finishAsync}. */
export interface StepsOptions {
  /** Calls the work off: the promise rejects with its reason, and everything taken is given back. */
  signal?: AbortSignal | undefined;
  /** Called after each wait, and once at the end. */
  onProgress?: ((progress: StepsProgress) => void) | undefined;
}

/** Runs all steps. */
export function finish<T>(gpu: Gpu, steps: Steps<T>): T {
  let recorded = 0;
  for (;;) {
    const step = noGrad(() => steps.next());
    if (step.done) return step.value;
    recorded += step.value;
    if (recorded < MOST_WORK) continue;
    gpu.flush();
    recorded = 0;
  }
}

/**
 * Runs all steps and waits for the device now and then: after every launch of seconds on a software adapter,
 * some dozens of times on others.
 *
 * @param total multiply-adds of all steps together
 */
export async function finishAsync<T>(
  gpu: Gpu,
  steps: Steps<T>,
  total: number,
  { signal, onProgress }: StepsOptions = {},
): Promise<T> {
  await Promise.resolve(); // a `tidy` around the call would end before the work does
  const portion = gpu.adapter.software ? MOST_WORK : Math.max(MOST_WORK, total / WAITS);
  let [done, recorded, waiting] = [0, 0, 0];
  try {
    signal?.throwIfAborted();
    for (;;) {
      const step = noGrad(() => steps.next());
      if (step.done) {
        await gpu.settle();
        onProgress?.({ done: total, total });
        return step.value;
      }
      done += step.value;
      recorded += step.value;
      waiting += step.value;
      if (waiting >= portion) {
        await gpu.settle();
        onProgress?.({ done, total });
        signal?.throwIfAborted();
        recorded = waiting = 0;
      } else if (recorded >= MOST_WORK) {
        gpu.flush();
        recorded = 0;
      }
    }
  } finally {
    steps.return(undefined as never); // gives back what is held; nothing once it ended
  }
}

/** The tensors of work in steps: no `tidy` can span it. */
export class Held {
  readonly #tensors = new Set<Tensor>();

  /** Takes a tensor in charge. */
  hold(tensor: Tensor): Tensor {
    this.#tensors.add(tensor);
    return tensor;
  }

  /** Gives a tensor back to the device. */
  drop(tensor: Tensor): void {
    this.#tensors.delete(tensor);
    tensor.dispose();
  }

  /** Lets a result go: it lives on, in its receiver's charge. */
  release(tensor: Tensor): Tensor {
    this.#tensors.delete(tensor);
    return tensor;
  }

  /** Gives back all that is still in charge. */
  end(): void {
    for (const tensor of this.#tensors) tensor.dispose();
    this.#tensors.clear();
  }
}
