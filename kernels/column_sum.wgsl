// column_sum: y[p, c] = Σ_r x[r, c] over the part_rows rows of part p, each of a column's TALL threads adding up every
// TALL-th row in ascending order, then the threads' sums in a tree
//
// x     (rows, cols) row-major; cols counted in packs
// y     (parts, cols), of which this launch writes first_part, first_part + 1, …
// grid  x over columns, BLOCK / TALL to a workgroup; y over parts
// parts common/column_reduce.wgsl

override BLOCK: u32 = 64;
override TALL: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, part_rows: u32, first_part: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read_write> y: array<pack>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let wide = BLOCK / TALL;
  let c = group.x * wide + lane % wide;
  let safe = min(c, params.cols - 1u);
  var sum = pack();
  let end = min((group.y + 1u) * params.part_rows, params.rows);
  for (var r = group.y * params.part_rows + lane / wide; r < end; r += TALL) {
    sum += x[r * params.cols + safe];
  }
  let total = column_total(lane, sum);
  if (lane < wide && c < params.cols) { y[(params.first_part + group.y) * params.cols + c] = total; }
}
