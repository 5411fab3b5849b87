// Sums of gradients over processes, made while backward goes on: as soon as the gradients of a bucket are complete they
// are read back, summed by all ranks, and written to the device again. Micro-batches of a window are summed on the
// device first; only their sum travels. Buckets travel in the order of their plan, so a repeated run gives the same bits.

import { type BackwardOptions, backwardSteps } from "../autograd.ts";
import type { Communicator } from "../comm/communicator.ts";
import { accumulate } from "../gpu/accumulate.ts";
import type { Gpu } from "../gpu/device.ts";
import { readAll, type Scope, Tensor } from "../tensor.ts";
import { type Bucket, planBuckets, type Slot } from "./bucket_plan.ts";

/** Settings of a {@link GradientReducer}. */
export interface ReducerOptions {
  /** Bytes that travel together. Default: 32 MiB. */
  bucketBytes?: number;
  /** Each rank gets the sums of the parameters it owns only (see shards.ts). Default: false. */
  sharded?: boolean;
  /** Milliseconds since any fixed moment. Default: `performance.now`. */
  now?: () => number;
}

/** What one window's exchange took. */
export interface ExchangeStats {
  /** Bytes this rank gave to the group. */
  bytes: number;
  /** Milliseconds from the first bucket's start to the last one's end. */
  exchangeMs: number;
  /** Milliseconds of that after backward had ended: what the step was held up. */
  waitedMs: number;
}

/** Sums of a window over all ranks. */
export interface Reduced {
  /** Gradients by parameter, the caller's to dispose of; parameters that no rank has a gradient of are absent. */
  gradients: Map<Tensor, Tensor>;
  /** Sums of the scalars given to {@link ReducedWindow.finish}. */
  scalars: number[];
  stats: ExchangeStats;
}

/** Milliseconds of backward between two turns of the event loop while something is on its way. */
const TURN_MS = 4;

/** Exchanges the gradients of one set of trainable parameters; to be made anew when that set changes. */
export class GradientReducer {
  readonly communicator: Communicator;
  readonly buckets: readonly Bucket[];
  readonly options: Required<ReducerOptions>;

  /** @param parameters name and tensor, the same on every rank; those trainable now are exchanged */
  constructor(
    communicator: Communicator,
    parameters: Iterable<readonly [string, Tensor]>,
    options: ReducerOptions = {},
  ) {
    const { bucketBytes = 2 ** 25, sharded = false, now = () => performance.now() } = options;
    this.communicator = communicator;
    this.options = { bucketBytes, sharded, now };
    this.buckets = planBuckets(parameters, {
      bucketBytes,
      ...(sharded ? { owners: communicator.size } : {}),
    });
  }

  /** Begins a window of `micros` micro-batches. */
  window(micros = 1): ReducedWindow {
    return new ReducedWindow(this, micros);
  }
}

/** One window: `backward` for each of its micro-batches, then `finish`. */
export class ReducedWindow {
  readonly #reducer: GradientReducer;
  #left: number;
  readonly #places = new Map<Tensor, { bucket: number; slot: Slot }>();
  /** By bucket: sums on the device so far, once there are any. */
  readonly #sums: (Tensor | undefined)[];
  readonly #present = new Set<Tensor>();
  /** By bucket: parameters of the last micro-batch that may still get a gradient. */
  readonly #missing: Set<Tensor>[];
  #next = 0;
  #travelling = 0;
  #begun: Promise<unknown> = Promise.resolve();
  readonly #arrivals: Promise<void>[] = [];
  #bytes = 0;
  #firstAt = Infinity;
  #lastAt = -Infinity;

  constructor(reducer: GradientReducer, micros: number) {
    this.#reducer = reducer;
    this.#left = micros;
    this.#sums = reducer.buckets.map(() => undefined);
    this.#missing = reducer.buckets.map(({ slots }) => new Set(slots.map(({ tensor }) => tensor)));
    reducer.buckets.forEach(({ slots }, bucket) => {
      for (const slot of slots) this.#places.set(slot.tensor, { bucket, slot });
    });
  }

  /**
   * Goes backward through one micro-batch and adds its gradients; those of the last one set out as they are complete.
   *
   * @param scope where the graph was recorded
   * @param losses as for `backward`; none: this rank has nothing to learn from in this micro-batch
   */
  async backward(
    scope: Scope,
    losses: Tensor | readonly Tensor[],
    options: Omit<BackwardOptions, "onGradient" | "onReach" | "wanted"> = {},
  ): Promise<void> {
    if (this.#left === 0) {
      throw new Error("internal: more micro-batches than the window was begun for");
    }
    const last = --this.#left === 0;
    const { options: { now }, communicator } = this.#reducer;
    const steps = backwardSteps(losses, {
      ...options,
      onReach: (reached) => {
        if (!last) return;
        for (const missing of this.#missing) {
          for (const tensor of missing) if (!reached.has(tensor)) missing.delete(tensor);
        }
      },
      onGradient: (parameter, gradient) => this.#take(parameter, gradient, last),
    });
    let turnAt = now();
    while (!scope.run(() => steps.next()).done) {
      if (this.#travelling === 0 || now() - turnAt < TURN_MS) continue;
      communicator.progress();
      await new Promise((resolve) => setTimeout(resolve));
      turnAt = now();
    }
  }

  /**
   * Waits for everything to arrive.
   *
   * @param scalars one-element tensors of this rank, such as its losses: summed over ranks in f64
   */
  async finish(scalars: readonly Tensor[] = []): Promise<Reduced> {
    const { buckets, communicator, options } = this.#reducer;
    const since = options.now();
    for (const missing of this.#missing) missing.clear();
    this.#send();
    const own = (await readAll(scalars)).map((values) => values[0]);
    await Promise.all(this.#arrivals);
    const parameters = [...this.#places.keys()];
    const flags = parameters.map((tensor) => this.#present.has(tensor) ? 1 : 0);
    const sums = await communicator.sumNumbers([...own, ...flags]);
    const gradients = new Map<Tensor, Tensor>();
    parameters.forEach((tensor, i) => {
      const { bucket, slot } = this.#places.get(tensor)!;
      if (sums[own.length + i] === 0) return;
      if (options.sharded && slot.owner !== communicator.rank) return;
      gradients.set(tensor, this.#sums[bucket]!.view(slot.start, tensor.shape).keep());
    });
    buckets.forEach((_, bucket) => this.#sums[bucket]?.dispose());
    const waitedMs = options.now() - since;
    const exchangeMs = Math.max(0, this.#lastAt - this.#firstAt);
    const stats = { bytes: this.#bytes, exchangeMs, waitedMs };
    return { gradients, scalars: sums.slice(0, own.length), stats };
  }

  /** Adds one gradient, which is given back. */
  #take(parameter: Tensor, gradient: Tensor, last: boolean): void {
    const place = this.#places.get(parameter);
    if (!place) {
      const shape = parameter.shape.join(", ");
      throw new TypeError(
        `Cannot exchange the gradient of a (${shape}) tensor: it was no trainable parameter when the ` +
          "reducer was made",
      );
    }
    const { bucket, slot: { start } } = place;
    const sum = this.#sumOf(bucket, parameter.gpu);
    if (this.#present.has(parameter)) {
      accumulate(sum.view(start, gradient.shape), gradient).dispose();
    } else {
      parameter.gpu.copy(gradient.buffer, 0, sum.buffer, 4 * start, 4 * gradient.size);
      gradient.dispose();
      this.#present.add(parameter);
    }
    if (!last) return;
    this.#missing[bucket].delete(parameter);
    this.#send();
  }

  #sumOf(bucket: number, gpu: Gpu): Tensor {
    return this.#sums[bucket] ??= Tensor.zeros(gpu, [this.#reducer.buckets[bucket].size]).keep();
  }

  /** Sends off every bucket that is complete and whose turn it is. */
  #send(): void {
    while (this.#next < this.#missing.length && this.#missing[this.#next].size === 0) {
      this.#sendOne(this.#next++);
    }
  }

  #sendOne(index: number): void {
    const { options: { now } } = this.#reducer;
    const { size } = this.#reducer.buckets[index];
    const sum = this.#sums[index];
    this.#firstAt = Math.min(this.#firstAt, now());
    this.#travelling++;
    this.#bytes += 4 * size;
    const reading = sum
      ? sum.gpu.read([{ buffer: sum.buffer, sizeBytes: 4 * size }])
      : Promise.resolve([new ArrayBuffer(4 * size)]);
    // Exchanges begin in the same order on every rank, each as soon as its values are here.
    const begun = Promise.all([reading, this.#begun]).then(([[values]]) => ({
      exchange: this.#exchange(index, new Float32Array(values)),
    }));
    this.#begun = begun;
    this.#arrivals.push(
      begun.then(({ exchange }) => exchange).then(() => {
        this.#travelling--;
        this.#lastAt = Math.max(this.#lastAt, now());
      }),
    );
  }

  /** Sums one bucket over ranks and writes to the device what this rank goes on with. */
  async #exchange(index: number, values: Float32Array): Promise<void> {
    const { communicator, options: { sharded, bucketBytes } } = this.#reducer;
    const { size, counts, slots: [{ tensor: { gpu } }] } = this.#reducer.buckets[index];
    const most = Math.ceil(bucketBytes / 4);
    const whole = size <= most;
    if (!sharded || counts.length === 1) {
      const parts: Promise<void>[] = [];
      for (let from = 0; from < size; from += most) {
        parts.push(communicator.sum(values.subarray(from, Math.min(size, from + most))));
      }
      await Promise.all(parts);
      gpu.write(this.#sumOf(index, gpu).buffer, values);
      return;
    }
    // A bucket larger than usual is one parameter, so it has one owner: it goes to that rank piece by piece.
    const pieces: Promise<Float32Array>[] = [];
    for (let from = 0; from < size; from += whole ? size : most) {
      const to = whole ? size : Math.min(size, from + most);
      const shares = whole ? counts : counts.map((n) => n === 0 ? 0 : to - from);
      pieces.push(communicator.reduceScatter(values.subarray(from, to), shares));
    }
    const own = await Promise.all(pieces);
    let at = counts.slice(0, communicator.rank).reduce((a, b) => a + b, 0);
    for (const piece of own) {
      if (piece.length > 0) gpu.write(this.#sumOf(index, gpu).buffer, piece, 4 * at);
      at += piece.length;
    }
  }
}
