// Queries, keys and values out of stacked projections: taken apart, normed per head, rotated and, where tokens of
// several projections meet in one attention, put in their places, by one kernel per projection.

import { detach, recordAll } from "../autograd.ts";
import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor.ts";
import {
  type HeadPart,
  type HeadSizes,
  layoutOf,
  partGradients,
  type PartRun,
  runForward,
} from "./head_launch.ts";
import type { RopeTables } from "./rope.ts";
import { stackRows } from "./stack_rows.ts";

export type { HeadPart, HeadSizes } from "./head_launch.ts";

/** Queries (N, H, D), keys and values (N, K, D). */
export interface Projected {
  q: Tensor;
  k: Tensor;
  v: Tensor;
}

/** Gradients that do not reach a projection: those of its queries, those of its keys and values. */
export interface HeadCut {
  q?: boolean;
  kv?: boolean;
}

/**
 * Heads of a stacked projection: `q` and `k` normed per head as by `rmsNorm` and turned as by `rope`, `v` as it is.
 * Gradients that do not arrive count as zero; those of the norm weights are summed in an order that depends on the
 * shapes only.
 *
 * @param x (N, (H + 2K)·D) rows `[q | k | v]`
 * @param qNorm (D) weight of the queries' norm
 * @param kNorm (D) weight of the keys' norm
 * @param tables made by `ropeTables` for the N tokens and D
 * @throws {TypeError} If the shapes do not belong together
 */
export function headNormRope(
  x: Tensor,
  qNorm: Tensor,
  kNorm: Tensor,
  tables: RopeTables,
  sizes: HeadSizes,
): Projected {
  return joinHeads([{ x, qNorm, kNorm, tables }], tables.cos.dim(0), sizes)[0];
}

/** Whether the heads of so many tokens can be bound as one, which {@link joinHeads} needs. */
export function headsFit(gpu: Gpu, tokens: number, size: number, sizes: HeadSizes): boolean {
  return 4 * layoutOf(tokens, size, sizes).end <= gpu.maxBindingBytes;
}

/**
 * Heads of several projections, each as by {@link headNormRope}, their tokens in their places: what `mergeRows` makes of
 * them.
 *
 * @param given projections whose rows are all N tokens together
 * @param tokens N
 * @param uses for each way in which the heads are used: what is cut off from each projection. Default: one, without cuts
 * @returns for each use the same values, with the gradients that it lets through
 * @throws {TypeError} If the shapes do not belong together, or the heads do not fit one binding
 */
export function joinHeads(
  given: readonly HeadPart[],
  tokens: number,
  sizes: HeadSizes,
  uses: readonly (readonly HeadCut[])[] = [[]],
): Projected[] {
  check(given, tokens, sizes);
  const { gpu } = given[0].x;
  const size = 2 * given[0].tables.cos.dim(1);
  const full = { eps: 1e-6, ...sizes };
  const layout = layoutOf(tokens, size, sizes);
  const y = Tensor.empty(gpu, [layout.end]);
  const runs = given.map((part) => {
    const slots = sizes.heads + 2 * sizes.keyHeads;
    const norms = stackRows([part.qNorm, part.kNorm]);
    const run: PartRun = { part, norms, stats: Tensor.empty(gpu, [part.x.dim(0), slots]) };
    runForward(run, y, layout, full, size);
    return run;
  });
  const results = uses.map((cuts) => {
    const [q, k, v] = layout.shapes.map((shape, i) => y.view(layout.firsts[i], shape));
    const open = runs.flatMap((run, i) => cuts[i]?.q && cuts[i]?.kv ? [] : [{ run, cut: cuts[i] }]);
    const inputs = open.flatMap(({ run: { part }, cut }) => [
      part.x,
      cut?.q ? detach(part.qNorm) : part.qNorm,
      cut?.kv ? detach(part.kNorm) : part.kNorm,
    ]);
    const kept = open.map(({ run, cut }) => {
      return { cut, run: { ...run, norms: run.norms.alias(), stats: run.stats.alias() } };
    });
    recordAll([q, k, v], inputs, (dys, needs) => {
      const dy = Tensor.empty(gpu, [layout.end]);
      dys.forEach((part, i) => {
        if (part) gpu.copy(part.buffer, 0, dy.buffer, 4 * layout.firsts[i], 4 * part.size);
      });
      return kept.flatMap(({ run, cut = {} }, i) => {
        const bits = dys.map((part, j) => part && !(j === 0 ? cut.q : cut.kv) ? 1 << j : 0);
        const arrived = bits.reduce((a, b) => a | b, 0);
        return partGradients(
          run,
          { dy, given: arrived, layout, sizes: full, size },
          needs.slice(3 * i),
        );
      });
    }, kept.flatMap(({ run }) => [run.norms, run.stats]));
    return { q, k, v };
  });
  for (const t of [y, ...runs.flatMap(({ norms, stats }) => [norms, stats])]) t.dispose();
  return results;
}

function check(given: readonly HeadPart[], tokens: number, sizes: HeadSizes): void {
  const { heads, keyHeads } = sizes;
  const half = given[0]?.tables.cos.dim(1) ?? 0;
  const shapeOf = (x: Tensor) => `(${x.shape.join(", ")})`;
  for (const { x, qNorm, kNorm, tables, rows } of given) {
    const own = x.shape[0];
    const fits = x.shape.length === 2 && x.shape[1] === (heads + 2 * keyHeads) * 2 * half &&
      heads > 0 && keyHeads > 0 && tables.cos.shape.join() === `${own},${half}` &&
      [qNorm, kNorm].every(({ shape }) => shape.join() === `${2 * half}`) &&
      (rows ? rows.size === own && rows.rows === tokens : own === tokens);
    if (fits) continue;
    throw new TypeError(
      `Cannot take ${heads} and twice ${keyHeads} heads out of ${shapeOf(x)} with norms of ` +
        `${shapeOf(qNorm)} and ${shapeOf(kNorm)}, tables of ${shapeOf(tables.cos)} and ` +
        `${rows ? `${rows.size} places among ${rows.rows}` : "no places"} for ${tokens} tokens`,
    );
  }
  const rows = given.reduce((sum, { x }) => sum + x.dim(0), 0);
  if (rows !== tokens || half === 0) {
    throw new TypeError(`Cannot join heads: ${rows} rows are given for ${tokens} tokens`);
  }
  if (headsFit(given[0].x.gpu, tokens, 2 * half, sizes)) return;
  throw new TypeError(
    `Cannot join the heads of ${tokens} tokens: they exceed the ${
      given[0].x.gpu.maxBindingBytes
    } bytes ` +
      "that this adapter binds at once",
  );
}
