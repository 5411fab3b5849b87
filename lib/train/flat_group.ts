// Parameters side by side in one tensor, so that norms, sums and updates of all of them are one launch each.

import { accumulate } from "../gpu/accumulate.ts";
import { rootOf } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import { type DType, Tensor } from "../tensor.ts";

/** Values from one parameter to the next are a multiple of this: kernels can bind each on its own. */
const STEPS = { f32: 64, bf16: 128 } as const;
/** How parameters may be stored. */
type StoredDType = keyof typeof STEPS;
/** Bytes of a group's values in f32, at most, unless one parameter is larger. */
const MOST_BYTES = 2 ** 26;

/** One parameter of a group. */
export interface Member {
  readonly name: string;
  readonly tensor: Tensor;
  /** Where its values start in the group. */
  readonly start: number;
  /** Which of the group's members it is. */
  readonly index: number;
  readonly group: FlatGroup;
}

/** Gradients of a group's members, in f32, laid out as their weights; zeros where there is none. */
export interface FlatGradient {
  flat: Tensor;
  /** By member: whether it has a gradient. */
  present: boolean[];
}

/** Members `first … last` of a group, neighbours in memory. */
export interface Run {
  first: number;
  last: number;
}

/** Parameters of one dtype that share one memory. */
export class FlatGroup {
  readonly gpu: Gpu;
  readonly dtype: StoredDType;
  readonly members: readonly Member[];
  /** Number of values, gaps included. */
  readonly size: number;

  /** @param parameters at least one, all f32 or all bf16; their contents are moved by {@link FlatGroup.gather} */
  constructor(parameters: readonly (readonly [string, Tensor])[]) {
    let next = 0;
    this.gpu = parameters[0][1].gpu;
    this.dtype = stored(...parameters[0]);
    const step = STEPS[this.dtype];
    this.members = parameters.map(([name, tensor], index) => {
      const start = next;
      next += step * Math.ceil(tensor.size / step);
      return { name, tensor, start, index, group: this };
    });
    this.size = next;
  }

  /** An f32 tensor of zeros with a place for every value. */
  zeros(): Tensor {
    return Tensor.zeros(this.gpu, [this.size]);
  }

  /** The part of a tensor laid out as the group that belongs to a member, in its shape. */
  part(flat: Tensor, { start, tensor }: Member): Tensor {
    return flat.view(start, tensor.shape);
  }

  /** The part that belongs to a run of members, gaps between them included. */
  range(flat: Tensor, { first, last }: Run): Tensor {
    const from = this.members[first].start;
    const end = this.members[last + 1]?.start ?? this.size;
    return flat.view(from, [end - from]);
  }

  /** Moves the members' values into one tensor of their dtype, where their handles find them from now on. */
  gather(): Tensor {
    const flat = Tensor.zeros(this.gpu, [this.size], this.dtype);
    for (const member of this.members) member.tensor.moveTo(this.part(flat, member));
    return flat;
  }

  /** Copies gradients side by side and gives them back; `undefined` if no member has one. */
  collect(gradients: Map<Tensor, Tensor>): FlatGradient | undefined {
    const present = this.members.map(({ tensor }) => gradients.has(tensor));
    if (!present.includes(true)) return undefined;
    const flat = this.zeros();
    for (const { tensor, start } of this.members) {
      const gradient = gradients.get(tensor);
      if (!gradient) continue;
      this.gpu.copy(gradient.buffer, 0, flat.buffer, 4 * start, 4 * gradient.size);
      gradient.dispose();
      gradients.delete(tensor);
    }
    return { flat, present };
  }

  /** Adds gradients to those already collected, member by member in their order, and gives them back. */
  add(sum: FlatGradient, gradients: Map<Tensor, Tensor>): void {
    for (const member of this.members) {
      const gradient = gradients.get(member.tensor);
      if (!gradient) continue;
      gradients.delete(member.tensor);
      if (sum.present[member.index]) {
        accumulate(this.part(sum.flat, member), gradient).dispose();
        continue;
      }
      this.gpu.copy(gradient.buffer, 0, sum.flat.buffer, 4 * member.start, 4 * gradient.size);
      gradient.dispose();
      sum.present[member.index] = true;
    }
  }

  /** A member whose values are no longer in `flat`, if there is one: they were moved since. */
  astray(flat: Tensor): Member | undefined {
    const root = rootOf(flat.buffer);
    return this.members.find(({ tensor }) => rootOf(tensor.buffer) !== root);
  }

  /** Longest runs of neighbours that agree in what `kind` says of them; members of kind `undefined` are in none. */
  runs(kind: (member: Member) => number | undefined): Run[] {
    const runs: Run[] = [];
    let open: number | undefined;
    for (const member of this.members) {
      const here = kind(member);
      const { index } = member;
      if (here !== undefined && here === open && runs.at(-1)?.last === index - 1) {
        runs.at(-1)!.last = index;
      } else if (here !== undefined) runs.push({ first: index, last: index });
      open = here;
    }
    return runs;
  }
}

/**
 * Cuts parameters, in their order, into groups of one dtype and at most {@link MOST_BYTES}.
 *
 * @throws {TypeError} If one is neither f32 nor bf16
 */
export function flatGroups(parameters: Iterable<readonly [string, Tensor]>): FlatGroup[] {
  const groups: (readonly [string, Tensor])[][] = [];
  const open = new Map<StoredDType, { group: (readonly [string, Tensor])[]; bytes: number }>();
  for (const entry of parameters) {
    const dtype = stored(...entry);
    const size = 4 * entry[1].size;
    let last = open.get(dtype);
    if (!last || last.bytes + size > MOST_BYTES) {
      open.set(dtype, last = { group: [], bytes: 0 });
      groups.push(last.group);
    }
    last.group.push(entry);
    last.bytes += size;
  }
  return groups.map((group) => new FlatGroup(group));
}

function stored(name: string, { dtype }: { dtype: DType }): StoredDType {
  if (Object.hasOwn(STEPS, dtype)) return dtype as StoredDType;
  throw new TypeError(
    `Cannot train ${name}, which is stored as ${dtype}: expected f32 or bf16`,
  );
}
