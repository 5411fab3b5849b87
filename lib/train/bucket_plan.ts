// Which gradients travel together between processes, and in which order. Every rank makes the same plan from the names
// and sizes of the trainable parameters alone, whatever its own batch reaches.

import { type Tensor } from "../tensor.ts";

/** Values from one gradient to the next are a multiple of this: kernels can bind each on its own. */
const STEP = 64;

/** One parameter's place in a bucket. */
export interface Slot {
  readonly name: string;
  readonly tensor: Tensor;
  /** Where its values start in the bucket. */
  readonly start: number;
  /** The rank that updates it, when updates are shared out; else 0. */
  readonly owner: number;
}

/** Gradients that are exchanged in one go. Slots of one owner lie side by side, owners in rank order. */
export interface Bucket {
  readonly slots: readonly Slot[];
  /** Number of values, gaps included. */
  readonly size: number;
  /** Number of values of each owner. */
  readonly counts: readonly number[];
}

/** Settings of {@link planBuckets}. */
export interface BucketOptions {
  /** Size of a bucket, unless one parameter is larger. */
  bucketBytes: number;
  /** Ranks among which updates are shared out. Default: 1, every rank updates everything. */
  owners?: number;
}

/** Parts of a model from the losses back, in the order in which backward completes their gradients. */
const PARTS = [
  /(^|\.)(text\.head|latent\.out|(und|gen)\.norm)\./,
  /(^|\.)(und|gen)\.layers\./,
  /(^|\.)(connector|latent)\./,
  /(^|\.)vit\.norm\./,
  /(^|\.)vit\.layers\./,
  /(^|\.)vit\./,
] as const;

/** Sorts parameters by when backward completes their gradients: both experts of a layer together, last layers first. */
export function backwardOrder<T>(
  parameters: Iterable<readonly [string, T]>,
): (readonly [string, T])[] {
  const keyed = [...parameters].map((entry, index) => {
    const part = PARTS.findIndex((pattern) => pattern.test(entry[0]));
    const layer = Number(/\.layers\.(\d+)\./.exec(entry[0])?.[1] ?? 0);
    return { entry, key: [part < 0 ? PARTS.length : part, -layer, -index] };
  });
  keyed.sort((a, b) => {
    const at = a.key.findIndex((k, i) => k !== b.key[i]);
    return at < 0 ? 0 : a.key[at] - b.key[at];
  });
  return keyed.map(({ entry }) => entry);
}

/**
 * Cuts trainable parameters into buckets, in the order in which backward completes them. With several owners, each
 * parameter goes to the rank with the fewest values so far, the largest first within a bucket.
 *
 * @param parameters name and tensor; those that are not trainable are left out
 * @throws {RangeError} If a bucket would hold no value
 */
export function planBuckets(
  parameters: Iterable<readonly [string, Tensor]>,
  { bucketBytes, owners = 1 }: BucketOptions,
): Bucket[] {
  if (!(bucketBytes >= 4 * STEP)) {
    throw new RangeError(`Cannot plan buckets of ${bucketBytes} bytes: at least ${4 * STEP}`);
  }
  const groups: (readonly [string, Tensor])[][] = [];
  let bytes = Infinity;
  for (const entry of backwardOrder(parameters)) {
    if (!entry[1].requiresGrad) continue;
    const size = 4 * placeOf(entry[1]);
    if (bytes + size > bucketBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(entry);
    bytes += size;
  }
  const load = new Array<number>(owners).fill(0);
  return groups.map((group) => shareOut(group, load));
}

const placeOf = (tensor: Tensor) => STEP * Math.ceil(tensor.size / STEP);

/** Gives each parameter an owner, adding to their `load`, and a place. */
function shareOut(group: readonly (readonly [string, Tensor])[], load: number[]): Bucket {
  const owners = new Map<string, number>();
  const largestFirst = [...group].sort(([, a], [, b]) => b.size - a.size);
  for (const [name, tensor] of largestFirst) {
    const owner = load.indexOf(Math.min(...load));
    owners.set(name, owner);
    load[owner] += tensor.size;
  }
  const counts = load.map(() => 0);
  const slots: Slot[] = [];
  let start = 0;
  for (let owner = 0; owner < load.length; owner++) {
    for (const [name, tensor] of group) {
      if (owners.get(name) !== owner) continue;
      slots.push({ name, tensor, start, owner });
      start += placeOf(tensor);
      counts[owner] += placeOf(tensor);
    }
  }
  return { slots, size: start, counts };
}
