// The optimizer's state shared out among processes (ZeRO stage 1, Rajbhandari et al. 2020): each rank holds moments and
// masters of the parameters it owns, updates those, and gets the others' new values from their owners.

import { Parameters } from "../nn/parameters.ts";
import type { Communicator } from "../comm/communicator.ts";
import { bytesOf, type Tensor } from "../tensor.ts";
import type { GradientReducer } from "./reduce.ts";
import type { Slot } from "./bucket_plan.ts";

/** Who updates which parameter, from the plan of a sharded reducer. */
export class Shards {
  readonly #communicator: Communicator;
  readonly #reducer: GradientReducer;
  readonly #owners = new Map<string, number>();

  /** @throws {TypeError} If the reducer was not made with `sharded` */
  constructor(reducer: GradientReducer) {
    if (!reducer.options.sharded) {
      throw new TypeError("Cannot share updates out: the reducer was made without sharded");
    }
    this.#communicator = reducer.communicator;
    this.#reducer = reducer;
    for (const { slots } of reducer.buckets) {
      for (const { name, owner } of slots) this.#owners.set(name, owner);
    }
  }

  /** The rank that updates a parameter; undefined for those that are not trained. */
  ownerOf(name: string): number | undefined {
    return this.#owners.get(name);
  }

  /** The parameters this rank updates: what its optimizer is made for. */
  own(parameters: Parameters): Parameters {
    const { rank } = this.#communicator;
    return new Parameters(
      new Map([...parameters.entries()].filter(([name]) => this.ownerOf(name) === rank)),
    );
  }

  /** Gets the values of all parameters from their owners, after an update. Any dtype of whole words. */
  async gatherWeights(): Promise<void> {
    const { buckets, options: { bucketBytes } } = this.#reducer;
    const reads = (index: number) => {
      const slots = buckets[index]?.slots.filter((slot) => this.#isOwn(slot)) ?? [];
      return { slots, values: readBytes(slots.map(({ tensor }) => tensor)) };
    };
    let ahead = reads(0);
    for (const [index, { slots }] of buckets.entries()) {
      const own = await ahead.values;
      ahead = reads(index + 1);
      const bytes = slots.map(({ tensor }) => bytesOf(tensor.shape, tensor.dtype));
      if (slots.length === 1) {
        await this.#shareOne(slots[0], own[0] ?? new Uint8Array(bytes[0]), bucketBytes);
        continue;
      }
      const counts = new Array<number>(this.#communicator.size).fill(0);
      slots.forEach(({ owner }, i) => counts[owner] += bytes[i]);
      const all = await this.#communicator.allGather(joined(own), counts);
      let at = 0;
      slots.forEach((slot, i) => {
        const values = all.subarray(at, at += bytes[i]);
        if (!this.#isOwn(slot)) slot.tensor.gpu.write(slot.tensor.buffer, values);
      });
    }
  }

  /**
   * Gives every rank the values of a tensor that only the owner of a parameter has, such as its moments, for a
   * checkpoint. Called by all ranks in the same order.
   *
   * @param local the owner's tensor; others give none
   * @param count number of f32 values
   * @throws {TypeError} If the parameter has no owner, or its owner gives no tensor of that size
   */
  async fromOwner(name: string, local: Tensor | undefined, count: number): Promise<Float32Array> {
    const owner = this.ownerOf(name);
    if (owner === undefined) throw new TypeError(`Cannot collect ${name}: no rank trains it`);
    const mine = owner === this.#communicator.rank;
    if (mine && local?.size !== count) {
      throw new TypeError(`Cannot collect ${name}: ${local?.size ?? 0} of ${count} values`);
    }
    const values = mine ? await local!.floats() : new Float32Array(count);
    const most = Math.ceil(this.#reducer.options.bucketBytes / 4);
    for (let from = 0; from < count; from += most) {
      await this.#communicator.broadcast(values.subarray(from, from + most), owner);
    }
    return values;
  }

  #isOwn({ owner }: Slot): boolean {
    return owner === this.#communicator.rank;
  }

  async #shareOne(slot: Slot, values: Uint8Array, pieceBytes: number): Promise<void> {
    for (let from = 0; from < values.length; from += pieceBytes) {
      await this.#communicator.broadcast(values.subarray(from, from + pieceBytes), slot.owner);
    }
    if (!this.#isOwn(slot)) slot.tensor.gpu.write(slot.tensor.buffer, values);
  }
}

/** Stored bytes of tensors. */
async function readBytes(tensors: readonly Tensor[]): Promise<Uint8Array[]> {
  if (tensors.length === 0) return [];
  const ranges = tensors.map(({ buffer, shape, dtype }) => ({
    buffer,
    sizeBytes: bytesOf(shape, dtype),
  }));
  return (await tensors[0].gpu.read(ranges)).map((bytes) => new Uint8Array(bytes));
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
