// Which attention kernels run where. On a GPU, and for wide heads anywhere, workgroups pass tiles through
// workgroup memory; on a software adapter, where such tiles cost more than they save, each invocation owns
// a row of a narrow head.

import tileForward from "../../kernels/attention.wgsl" with { type: "text" };
import tileToQueries from "../../kernels/attention_backward_query.wgsl" with { type: "text" };
import tileToKeys from "../../kernels/attention_backward_key.wgsl" with { type: "text" };
import rowsForward from "../../kernels/attention_rows.wgsl" with { type: "text" };
import rowsToQueries from "../../kernels/attention_rows_backward_query.wgsl" with { type: "text" };
import rowsToKeys from "../../kernels/attention_rows_backward_key.wgsl" with { type: "text" };
import maskRule from "../../kernels/common/attention_mask.wgsl" with { type: "text" };
import tileParts from "../../kernels/common/attention_tile.wgsl" with { type: "text" };
import plainRows from "../../kernels/common/rows_plain.wgsl" with { type: "text" };
import subgroupRows from "../../kernels/common/rows_subgroup.wgsl" with { type: "text" };
import type { Gpu } from "../gpu/device.ts";
import { type Binding, Kernel } from "../gpu/kernel.ts";

/** One of the three passes, ready to launch for a head size. */
export interface AttentionPass {
  /** Rows (queries, or keys in the pass to keys) a workgroup owns; a size of MASK_BLOCKS. */
  readonly block: number;
  run(
    gpu: Gpu,
    buffers: Record<string, Binding>,
    params: Record<string, number>,
    rows: number,
    heads: number,
  ): void;
}

/** The passes of one family. */
export interface AttentionKernels {
  forward: AttentionPass;
  toQueries: AttentionPass;
  toKeys: AttentionPass;
}

/** Widest head that the row kernels take: they keep whole rows in registers, so compiling them grows. */
const WIDEST_ROW = 32;
/** Columns that one slice of a tile kernel covers. */
const SLICE = 32;

const tile = tileFamily();
const plain = rowFamily([maskRule, plainRows], false);
const broadcast = rowFamily([maskRule, subgroupRows], true);

/** The kernels for heads of `size` values, a multiple of 4. */
export function attentionKernels(gpu: Gpu, size: number): AttentionKernels {
  if (!gpu.adapter.software || size > WIDEST_ROW) return tile(size);
  return gpu.subgroupSize === 8 ? broadcast(size) : plain(size);
}

function tileFamily(): (size: number) => AttentionKernels {
  const parts = [maskRule, tileParts];
  const knobs = ["SLICES"] as const;
  const make = (name: string, main: string, most: number) => {
    const kernel = new Kernel(name, { main, parts, knobs });
    return (size: number): AttentionPass => {
      const all = Math.ceil(size / SLICE);
      const slices = all === 1 ? 1 : all === 2 ? 2 : most; // per workgroup
      return {
        block: 32,
        run(gpu, buffers, params, rows, heads) {
          const grid = [Math.ceil(rows / 32), heads, Math.ceil(all / slices)];
          const given = { ...params, columns: size / 4 };
          kernel.run(gpu, { buffers, params: given, knobs: { SLICES: slices }, grid });
        },
      };
    };
  };
  const forward = make("attention", tileForward, 4);
  const toQueries = make("attention_backward_query", tileToQueries, 4);
  const toKeys = make("attention_backward_key", tileToKeys, 2);
  return (size) => ({
    forward: forward(size),
    toQueries: toQueries(size),
    toKeys: toKeys(size),
  });
}

function rowFamily(parts: string[], subgroups: boolean): (size: number) => AttentionKernels {
  const knobs = ["D4"] as const;
  const make = (name: string, main: string) => {
    const kernel = new Kernel(name, { main, parts, knobs, subgroups });
    return (size: number): AttentionPass => ({
      block: 8,
      run(gpu, buffers, params, rows, heads) {
        const grid = [Math.ceil(rows / 8), heads];
        kernel.run(gpu, { buffers, params, knobs: { D4: `${size / 4}u` }, grid });
      },
    });
  };
  const forward = make("attention_rows", rowsForward);
  const toQueries = make("attention_rows_backward_query", rowsToQueries);
  const toKeys = make("attention_rows_backward_key", rowsToKeys);
  return (size) => ({
    forward: forward(size),
    toQueries: toQueries(size),
    toKeys: toKeys(size),
  });
}
