// Which attention kernels run where. On a GPU workgroups pass tiles through workgroup memory. On a software
// adapter tiles and barriers cost more than they save (llvmpipe: threefold and more): each invocation owns a row.

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
import type { Work } from "../gpu/timings.ts";

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
    work: Work,
  ): void;
}

/** The passes of one family. */
export interface AttentionKernels {
  forward: AttentionPass;
  toQueries: AttentionPass;
  toKeys: AttentionPass;
}

/**
 * Columns of vec4 that one invocation of a row kernel sums in registers; wider heads take more
 * invocations, which repeat the scores. More of them take seconds to compile.
 */
const MOST_HELD = 8;
/** Columns that one slice of a tile kernel covers. */
const SLICE = 32;

const tile = tileFamily();
const plain = rowFamily([maskRule, plainRows], false);
const broadcast = rowFamily([maskRule, subgroupRows], true);

/** The kernels for heads of `size` values, a multiple of 4. */
export function attentionKernels(gpu: Gpu, size: number): AttentionKernels {
  if (!gpu.adapter.software) return tile(size);
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
        run(gpu, buffers, params, rows, heads, work) {
          const grid = [Math.ceil(rows / 32), heads, Math.ceil(all / slices)];
          const given = { ...params, columns: size / 4 };
          kernel.run(gpu, { buffers, params: given, knobs: { SLICES: slices }, grid, work });
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
  const knobs = ["HELD", "WHOLE"] as const;
  const make = (name: string, main: string) => {
    const kernel = new Kernel(name, { main, parts, knobs, subgroups });
    return (size: number): AttentionPass => ({
      block: 8,
      run(gpu, buffers, params, rows, heads, work) {
        const columns = size / 4;
        const slices = Math.ceil(columns / MOST_HELD);
        const held = Math.ceil(columns / slices);
        const knobs = { HELD: `${held}u`, WHOLE: `${slices === 1}` };
        const grid = [Math.ceil(rows / 8), heads, slices];
        kernel.run(gpu, { buffers, params: { ...params, columns }, knobs, grid, work });
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
