// Cutting planes into patch tokens and back, and the position id of every patch. ViT patches and
// latent patches have the same order: tokens row by row, and in a token (row, column, channel).

/**
 * (C, h, w) → (⌊h/p⌋·⌊w/p⌋, p·p·C). Rows and columns that fill no patch are left out, as the
 * latents of a padded image are.
 *
 * @param grid rows and columns of patches to take, if fewer than fit
 * @throws {RangeError} If the plane has less than one patch, or fewer than `grid`
 */
export function patchify(
  data: Float32Array,
  height: number,
  width: number,
  patch: number,
  grid: { rows: number; cols: number } = {
    rows: Math.floor(height / patch),
    cols: Math.floor(width / patch),
  },
): Float32Array<ArrayBuffer> {
  const { rows, cols } = grid;
  const area = height * width;
  const channels = data.length / area;
  if (!Number.isInteger(channels)) {
    throw new TypeError(`Cannot cut (C, ${height}, ${width}) into patches: ${data.length} values`);
  }
  if (rows < 1 || cols < 1 || rows * patch > height || cols * patch > width) {
    throw new RangeError(
      `Cannot cut ${height}x${width} into ${rows}x${cols} patches of ${patch}`,
    );
  }
  const out = new Float32Array(rows * cols * patch * patch * channels);
  let at = 0;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      for (let y = r * patch; y < (r + 1) * patch; y++) {
        for (let x = c * patch; x < (c + 1) * patch; x++) {
          for (let k = 0; k < channels; k++) out[at++] = data[k * area + y * width + x];
        }
      }
    }
  }
  return out;
}

/** The inverse of {@link patchify}: (rows·cols, p·p·C) → (C, rows·p, cols·p). */
export function unpatchify(
  tokens: Float32Array,
  rows: number,
  cols: number,
  patch: number,
): Float32Array<ArrayBuffer> {
  const channels = tokens.length / (rows * cols * patch * patch);
  if (!Number.isInteger(channels) || channels < 1) {
    throw new TypeError(
      `Cannot join ${rows}x${cols} patches of ${patch}: got ${tokens.length} values`,
    );
  }
  const [height, width] = [rows * patch, cols * patch];
  const out = new Float32Array(tokens.length);
  let at = 0;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      for (let y = r * patch; y < (r + 1) * patch; y++) {
        for (let x = c * patch; x < (c + 1) * patch; x++) {
          for (let k = 0; k < channels; k++) out[(k * height + y) * width + x] = tokens[at++];
        }
      }
    }
  }
  return out;
}

/** How patch coordinates become table rows; the reference model uses `extrapolate`. */
export type PositionRule = "extrapolate" | "interpolate";

/**
 * Row ids in a position table of `side` × `side` for a grid of patches, row by row.
 * `extrapolate`: r·side + c. `interpolate`: the grid is spread over the whole table, i.e. r/rows
 * and c/cols are sorted into `side` equal bins.
 *
 * @throws {RangeError} If `extrapolate` would leave the table
 */
export function positionIds(
  rows: number,
  cols: number,
  side: number,
  rule: PositionRule = "extrapolate",
): Int32Array<ArrayBuffer> {
  if (rule === "extrapolate" && (rows > side || cols > side)) {
    throw new RangeError(
      `Cannot place ${rows}x${cols} patches in a position table of ${side}x${side}`,
    );
  }
  const row = rule === "extrapolate" ? range(rows) : bins(rows, side);
  const col = rule === "extrapolate" ? range(cols) : bins(cols, side);
  const ids = new Int32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) ids[r * cols + c] = row[r] * side + col[c];
  }
  return ids;
}

function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

/**
 * For each of n coordinates i/n the number of boundaries j/side, 0 < j < side, that are at most it.
 * A coordinate that equals a boundary falls where f32 rounding puts it, so both are computed as the
 * reference's tensor library does: see {@link steps}.
 */
function bins(n: number, side: number): number[] {
  const boundaries = steps(1 / side, 1 / side, side - 1);
  return Array.from(steps(0, 1 / n, n), (x) => {
    const above = boundaries.findIndex((boundary) => boundary > x);
    return above < 0 ? boundaries.length : above;
  });
}

/**
 * start + i·step in f32. Whole groups of 16 are filled by vectors of 8 lanes whose first lane is
 * already rounded to f32; the rest is rounded once.
 */
function steps(start: number, step: number, count: number): Float32Array {
  const vectored = count - count % 16;
  return Float32Array.from({ length: count }, (_, i) => {
    if (i >= vectored) return start + step * i;
    return Math.fround(start + step * (i - i % 8)) + step * (i % 8);
  });
}
