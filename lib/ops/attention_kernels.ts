// Which attention kernels run where. On a GPU workgroups pass tiles through workgroup memory. On a software
// adapter tiles and barriers cost more than they save: subgroups of 8 lanes keep tiles of scores in memory, and
// where there are none each invocation owns a row.

import tileForward from "../../kernels/attention.wgsl" with { type: "text" };
import tileToQueries from "../../kernels/attention_backward_query.wgsl" with { type: "text" };
import tileToKeys from "../../kernels/attention_backward_key.wgsl" with { type: "text" };
import rowsForward from "../../kernels/attention_rows.wgsl" with { type: "text" };
import rowsToQueries from "../../kernels/attention_rows_backward_query.wgsl" with { type: "text" };
import rowsToKeys from "../../kernels/attention_rows_backward_key.wgsl" with { type: "text" };
import maskRule from "../../kernels/common/attention_mask.wgsl" with { type: "text" };
import tileParts from "../../kernels/common/attention_tile.wgsl" with { type: "text" };
import plainRows from "../../kernels/common/rows_plain.wgsl" with { type: "text" };
import type { Gpu } from "../gpu/device.ts";
import { type Binding, Kernel } from "../gpu/kernel.ts";
import type { Work } from "../gpu/timings.ts";
import { Tensor } from "../tensor.ts";
import { type AttentionCall, type AttentionKernels, attentionWork } from "./attention_call.ts";
import { attentionLanes } from "./attention_lanes.ts";

/**
 * Columns of vec4 that one invocation of a row kernel sums in registers; wider heads take more
 * invocations, which repeat the scores. More of them take seconds to compile.
 */
const MOST_HELD = 8;
/** Columns that one slice of a tile kernel covers. */
const SLICE = 32;

/** One of the three passes of a family that computes scores where it needs them. */
interface Pass {
  /** Rows (queries, or keys in the pass to keys) a workgroup owns; a size of MASK_BLOCKS. */
  readonly block: number;
  run(launch: PassLaunch): void;
}

interface PassLaunch {
  gpu: Gpu;
  buffers: Record<string, Binding>;
  params: Record<string, number>;
  /** Of the side whose results are written: queries, or keys in the pass to keys. */
  rows: number;
  heads: number;
  /** D. */
  size: number;
  work: Work;
}

const tiles = tileFamily();
const rows = rowFamily();

/** The kernels for an adapter. */
export function attentionKernels(gpu: Gpu): AttentionKernels {
  if (!gpu.adapter.software) return tiles;
  return gpu.subgroupSize === 8 ? attentionLanes : rows;
}

function tileFamily(): AttentionKernels {
  const parts = [maskRule, tileParts];
  const make = (name: string, main: string, most: number): Pass => {
    const kernel = new Kernel(name, { main, parts, knobs: ["SLICES"] });
    return {
      block: 32,
      run({ gpu, buffers, params, rows, heads, size, work }) {
        const all = Math.ceil(size / SLICE);
        const slices = all === 1 ? 1 : all === 2 ? 2 : most; // per workgroup
        const grid = [Math.ceil(rows / 32), heads, Math.ceil(all / slices)];
        kernel.run(gpu, { buffers, params, knobs: { SLICES: slices }, grid, work });
      },
    };
  };
  return threePasses(
    make("attention", tileForward, 4),
    make("attention_backward_query", tileToQueries, 4),
    make("attention_backward_key", tileToKeys, 2),
  );
}

function rowFamily(): AttentionKernels {
  const parts = [maskRule, plainRows];
  const make = (name: string, main: string): Pass => {
    const kernel = new Kernel(name, { main, parts, knobs: ["HELD", "WHOLE"] });
    return {
      block: 8,
      run({ gpu, buffers, params, rows, heads, size, work }) {
        const slices = Math.ceil(size / 4 / MOST_HELD);
        const held = Math.ceil(size / 4 / slices);
        const knobs = { HELD: `${held}u`, WHOLE: `${slices === 1}` };
        const grid = [Math.ceil(rows / 8), heads, slices];
        kernel.run(gpu, { buffers, params, knobs, grid, work });
      },
    };
  };
  return threePasses(
    make("attention_rows", rowsForward),
    make("attention_rows_backward_query", rowsToQueries),
    make("attention_rows_backward_key", rowsToKeys),
  );
}

function threePasses(toOutput: Pass, toQueries: Pass, toKeys: Pass): AttentionKernels {
  const launchOf = (pass: Pass, call: AttentionCall, keys: boolean) => {
    const { gpu, q, k, v, mask, scale } = call;
    const [queries, heads, size] = q.shape;
    const params = {
      queries,
      keys: k.dim(0),
      heads,
      group: heads / k.dim(1),
      offset: mask.queryOffset,
      key_tokens: mask.keyTokens,
      [keys ? "query_ranges" : "key_ranges"]: (keys ? mask.queryRanges : mask.keyRanges)[
        pass.block
      ],
      scale,
      columns: size / 4,
    };
    const buffers = { q: q.buffer, k: k.buffer, v: v.buffer, table: mask.table.buffer };
    const [rows, sides] = keys ? k.shape : q.shape;
    return { gpu, buffers, params, rows, heads: sides, size };
  };
  return {
    forward(call, y, lse) {
      const launch = launchOf(toOutput, call, false);
      const buffers = { ...launch.buffers, y: y.buffer, lse: lse.buffer };
      toOutput.run({ ...launch, buffers, work: attentionWork(call, 2) }); // q·k, p·v
    },
    backward(call, dy, stats, { dq, dk, dv }) {
      const given = { dy: dy.buffer, stats: stats.buffer };
      if (dq) {
        const launch = launchOf(toQueries, call, false);
        const buffers = { ...launch.buffers, ...given, dq: dq.buffer };
        toQueries.run({ ...launch, buffers, work: attentionWork(call, 3) }); // q·k, dy·v, ds·k
      }
      if (!dk && !dv) return;
      const launch = launchOf(toKeys, call, true);
      const [first, second] = [dk, dv].map((x) => x ?? Tensor.empty(call.gpu, call.k.shape));
      const buffers = { ...launch.buffers, ...given, dk: first.buffer, dv: second.buffer };
      toKeys.run({ ...launch, buffers, work: attentionWork(call, 4) }); // q·k, dy·v, p·dy, ds·q
      if (!dk) first.dispose();
      if (!dv) second.dispose();
    },
  };
}
