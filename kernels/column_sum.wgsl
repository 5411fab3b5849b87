// column_sum: y[p, c] = Σ x[r, c] over the rows r of part p, in ascending r. Run twice: over parts of the
// rows, then over the parts.
//
// x     (rows, columns) row-major
// y     (parts, columns), of which this launch writes parts first_part, first_part + 1, …
// grid  x over columns, y over the parts written

override BLOCK: u32 = 64;

struct Params { rows: u32, columns: u32, rows_per_part: u32, first_part: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let column = id.x;
  if (column >= params.columns) { return; }
  let start = id.y * params.rows_per_part;
  let end = min(start + params.rows_per_part, params.rows);
  var sum = 0.0;
  for (var r = start; r < end; r++) { sum += x[r * params.columns + column]; }
  y[(params.first_part + id.y) * params.columns + column] = sum;
}
