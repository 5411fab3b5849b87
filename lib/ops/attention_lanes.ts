// Attention on software adapters with 8-lane subgroups: tiles of scores are kept in memory, a bounded number at a
// time, so that both products of attention, and the five of its gradient, run like matrix products.

import scoresCode from "../../kernels/attention_lanes.wgsl" with { type: "text" };
import keysCode from "../../kernels/attention_lanes_keys.wgsl" with { type: "text" };
import maskCode from "../../kernels/attention_lanes_mask.wgsl" with { type: "text" };
import mixCode from "../../kernels/attention_lanes_mix.wgsl" with { type: "text" };
import pairsCode from "../../kernels/attention_lanes_pairs.wgsl" with { type: "text" };
import lanes from "../../kernels/common/attention_lanes.wgsl" with { type: "text" };
import maskRule from "../../kernels/common/attention_mask.wgsl" with { type: "text" };
import { type Binding, Kernel } from "../gpu/kernel.ts";
import type { Work } from "../gpu/timings.ts";
import { Tensor } from "../tensor.ts";
import { type BlockTurn, blockTurns } from "./attention_blocks.ts";
import { type AttentionCall, type AttentionKernels, attentionWork } from "./attention_call.ts";

const sight = new Kernel("attention_lanes_mask", { main: maskCode, parts: [maskRule] });
const options = { parts: [lanes], subgroups: true };
const scores = new Kernel("attention_lanes", { main: scoresCode, ...options });
const pairs = new Kernel("attention_lanes_pairs", { main: pairsCode, ...options });
const mixKnobs = ["HELD", "WEIGHED"] as const;
const mix = new Kernel("attention_lanes_mix", {
  main: mixCode,
  knobs: mixKnobs,
  ...options,
});
const toKeys = new Kernel("attention_lanes_keys", {
  main: keysCode,
  knobs: ["HELD", "ADD"],
  ...options,
});

/** Values of a tile, and of the record that the forward pass keeps of one; the backward pass keeps two tiles. */
const TILE = 1024, RECORD = TILE + 64;
/** Bytes of tiles that are kept at a time, at least; as many as the queries take, if those are more. */
const TILE_BYTES = 2 ** 22;
/** Blocks of four columns that a subgroup sums in registers, at most. */
const MOST_HELD = 8;

/** The kernels for subgroups of exactly 8 lanes. */
export const attentionLanes: AttentionKernels = {
  forward(call, y, lse) {
    const { gpu, q, k, v, mask } = call;
    const table = mask.table.buffer;
    const turns = turnsOf(call, RECORD);
    const tiles = Tensor.empty(gpu, [most(turns), RECORD]);
    for (const turn of turns) {
      const bits = bitsOf(call, turn);
      const params = { ...paramsOf(call, turn), scale: call.scale * Math.LOG2E };
      scores.run(gpu, {
        buffers: {
          q: q.buffer,
          k: k.buffer,
          table,
          bits: bits.buffer,
          tiles: tiles.buffer,
          lse: lse.buffer,
        },
        params,
        grid: [turn.endBlock - turn.firstBlock, turn.endHead - turn.firstHead],
        work: workOf(call, turn, 1),
      });
      bits.dispose();
      runMix(call, turn, tiles.buffer, v, y, 1);
    }
    tiles.dispose();
  },

  backward(call, dy, stats, grads) {
    const { gpu, q, k, v, mask } = call;
    const table = mask.table.buffer;
    const turns = turnsOf(call, 2 * TILE);
    const several = turns.length > 1;
    for (const x of [grads.dk, grads.dv]) if (x && several) gpu.clear(x.buffer);
    const tiles = Tensor.empty(gpu, [2, most(turns), TILE]);
    for (const turn of turns) {
      const bits = bitsOf(call, turn);
      const bytes = 4 * TILE * turn.tiles * (turn.endHead - turn.firstHead);
      const p = { buffer: tiles.buffer, offset: 0, sizeBytes: bytes };
      const ds = { ...p, offset: bytes };
      pairs.run(gpu, {
        buffers: {
          q: q.buffer,
          k: k.buffer,
          v: v.buffer,
          dy: dy.buffer,
          stats: stats.buffer,
          table,
          bits: bits.buffer,
          tiles: tiles.buffer,
        },
        params: { ...paramsOf(call, turn), slopes: bytes / 16, scale: call.scale },
        grid: [turn.endBlock - turn.firstBlock, turn.endHead - turn.firstHead],
        work: workOf(call, turn, 2),
      });
      bits.dispose();
      if (grads.dq) runMix(call, turn, ds, k, grads.dq, 0);
      if (grads.dk) runToKeys(call, turn, ds, q, grads.dk, several);
      if (grads.dv) runToKeys(call, turn, p, dy, grads.dv, several);
    }
    tiles.dispose();
  },
};

/** For each tile of a turn and each of its 32 queries, which of its 32 keys the query sees. */
function bitsOf(call: AttentionCall, turn: BlockTurn): Tensor {
  const bits = Tensor.empty(call.gpu, [turn.tiles, 32], "u32");
  sight.run(call.gpu, {
    buffers: { table: call.mask.table.buffer, bits: bits.buffer },
    params: paramsOf(call, turn),
    grid: [turn.endBlock - turn.firstBlock],
  });
  return bits;
}

function runMix(
  call: AttentionCall,
  turn: BlockTurn,
  tiles: Binding,
  x: Tensor,
  y: Tensor,
  weighed: number,
): void {
  const { held, slices } = columnsOf(call);
  const blocks = turn.endBlock - turn.firstBlock;
  mix.run(call.gpu, {
    buffers: { tiles, x: x.buffer, table: call.mask.table.buffer, y: y.buffer },
    params: paramsOf(call, turn),
    knobs: { HELD: held, WEIGHED: weighed },
    grid: [blocks, turn.endHead - turn.firstHead, slices],
    work: workOf(call, turn, 1),
  });
}

function runToKeys(
  call: AttentionCall,
  turn: BlockTurn,
  tiles: Binding,
  x: Tensor,
  dx: Tensor,
  add: boolean,
): void {
  const { held, slices } = columnsOf(call);
  const group = call.q.dim(1) / call.k.dim(1);
  const firstKeyHead = Math.floor(turn.firstHead / group);
  const keyHeads = Math.ceil(turn.endHead / group) - firstKeyHead;
  const all = !add; // one turn: blocks of keys that nobody meets get their zeros
  const firstKeyBlock = all ? 0 : turn.firstKeyBlock;
  const endKeyBlock = all ? call.mask.blocks.keys.length - 1 : turn.endKeyBlock;
  toKeys.run(call.gpu, {
    buffers: { tiles, x: x.buffer, table: call.mask.table.buffer, dx: dx.buffer },
    params: {
      ...paramsOf(call, turn),
      end_block: turn.endBlock,
      end_head: turn.endHead,
      first_key_block: firstKeyBlock,
      first_key_head: firstKeyHead,
    },
    knobs: { HELD: held, ADD: add ? 1 : 0 },
    grid: [endKeyBlock - firstKeyBlock, keyHeads, slices],
    work: workOf(call, turn, 1),
  });
}

function paramsOf({ q, k, mask }: AttentionCall, turn: BlockTurn): Record<string, number> {
  const [queries, heads, size] = q.shape;
  return {
    queries,
    heads,
    group: heads / k.dim(1),
    columns: size / 4,
    offset: mask.queryOffset,
    key_tokens: mask.keyTokens,
    query_blocks: mask.queryBlocks,
    key_blocks: mask.keyBlocks,
    first_block: turn.firstBlock,
    first_head: turn.firstHead,
    first_tile: turn.firstTile,
    tiles: turn.tiles,
  };
}

/** A turn's share of `products` products of the pass. */
function workOf(call: AttentionCall, turn: BlockTurn, products: number): Work {
  const { flop = 0 } = attentionWork(call, products);
  const tiles = call.mask.blocks.firstTile.at(-1)! * call.q.dim(1);
  return { flop: flop * turn.tiles * (turn.endHead - turn.firstHead) / tiles };
}

/** How a head's columns are cut: `held` of them, counted in fours, per subgroup. */
function columnsOf({ q }: AttentionCall): { held: number; slices: number } {
  const columns = q.dim(2) / 4;
  const slices = Math.ceil(columns / MOST_HELD);
  const held = Math.ceil(columns / slices);
  return { held, slices: Math.ceil(columns / held) };
}

function turnsOf({ gpu, q, k, mask }: AttentionCall, values: number): BlockTurn[] {
  const heads = q.dim(1);
  const bytes = Math.min(gpu.maxBindingBytes, Math.max(TILE_BYTES, 4 * q.size));
  return blockTurns(mask.blocks, heads, heads / k.dim(1), Math.floor(bytes / (4 * values)));
}

/** Tiles of the fullest turn. */
function most(turns: BlockTurn[]): number {
  return Math.max(...turns.map(({ tiles, firstHead, endHead }) => tiles * (endHead - firstHead)));
}
