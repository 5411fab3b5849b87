// Cuts a matrix product into launches whose bindings fit the adapter's limit. Cuts along rows or columns are
// independent; cuts along the inner axis add to the result in ascending order.

import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { MatmulSizes } from "./matmul_config.ts";
import { ROW_STEP } from "./matmul_rows.ts";

/** A box of the product: rows [row, row + rows) and so on. */
export interface MatmulPiece {
  row: number;
  rows: number;
  column: number;
  columns: number;
  k: number;
  inner: number;
}

/** Keeps the grid below 65535 workgroups per axis with tiles of 4. */
const MOST_ROWS = 4 * 65535 - 4 * 65535 % ROW_STEP;

/**
 * Boxes that together cover the product, in the order to run them; at least one.
 *
 * @param limitBytes largest binding
 * @param storedBytes bytes of a stored row of `b`. Default: f32 values, filled up to whole vec4s
 * @throws {ResourceError} If 64 rows of an operand exceed the limit
 */
export function planMatmul(
  sizes: MatmulSizes,
  limitBytes: number,
  storedBytes?: number,
): MatmulPiece[] {
  const { rows, columns, inner, transposeA, transposeB } = sizes;
  // Rows of the result are rows of c and of an untransposed a; a transposed b is cut along columns; the
  // other storage orders are cut along the inner axis.
  const rowStep = Math.min(
    MOST_ROWS,
    fitting(columns, rows, limitBytes),
    transposeA ? Infinity : fitting(inner, rows, limitBytes),
  );
  const columnStep = Math.min(
    MOST_ROWS,
    transposeB ? fitting(inner, columns, limitBytes, storedBytes) : Infinity,
  );
  const innerStep = Math.min(
    transposeA ? fitting(rows, inner, limitBytes) : Infinity,
    transposeB ? Infinity : fitting(columns, inner, limitBytes, storedBytes),
  );
  const pieces: MatmulPiece[] = [];
  for (let row = 0; row < rows; row += rowStep) {
    for (let column = 0; column < columns; column += columnStep) {
      for (let k = 0; k === 0 || k < inner; k += innerStep) {
        pieces.push({
          row,
          rows: Math.min(rowStep, rows - row),
          column,
          columns: Math.min(columnStep, columns - column),
          k,
          inner: Math.min(innerStep, inner - k),
        });
      }
    }
  }
  return pieces;
}

/** How many of `count` rows fit into one binding: all, or a multiple of 64. */
function fitting(
  values: number,
  count: number,
  limitBytes: number,
  rowBytes: number = 16 * Math.ceil(values / 4), // rows may be padded to whole vec4s
): number {
  if (rowBytes * count <= limitBytes) return Infinity;
  const rows = Math.floor(limitBytes / (rowBytes * ROW_STEP)) * ROW_STEP;
  if (rows > 0) return rows;
  throw new ResourceError(
    `Cannot multiply matrices: ${ROW_STEP} rows of ${values} values exceed the ` +
      `${formatBytes(limitBytes)} this adapter binds at once`,
  );
}
