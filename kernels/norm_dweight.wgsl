// norm_dweight: gradients of a norm's weight and bias. Each of a column's TALL threads adds up every TALL-th row in
// ascending order, then the threads' sums are added in a tree:
//   sums[p, 0, c] = Σ_r dy[r, c] · (x[r, c] - mean_r) · rstd_r      over the part_rows rows of part p
//   sums[p, 1, c] = Σ_r dy[r, c]                                    where BIAS is 1
//
// x, dy    (rows, cols); stats (rows, 2) = (mean, rstd); cols counted in packs
// sums     (parts, 1 + BIAS, cols), of which this launch writes first_part, first_part + 1, …
// grid     x over columns, BLOCK / TALL to a workgroup; y over parts
// parts    common/column_reduce.wgsl

override BLOCK: u32 = 64;
override TALL: u32 = 1;
override BIAS: u32 = 0;
alias pack = f32;

struct Params { rows: u32, cols: u32, part_rows: u32, first_part: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> dy: array<pack>;
@group(0) @binding(2) var<storage, read> stats: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> sums: array<pack>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let wide = BLOCK / TALL;
  let c = group.x * wide + lane % wide;
  let safe = min(c, params.cols - 1u);
  var scaled = pack();
  var plain = pack();
  let end = min((group.y + 1u) * params.part_rows, params.rows);
  for (var r = group.y * params.part_rows + lane / wide; r < end; r += TALL) {
    let g = dy[r * params.cols + safe];
    let s = stats[r];
    scaled += g * ((x[r * params.cols + safe] - s.x) * s.y);
    if (BIAS == 1u) { plain += g; }
  }
  let weight = column_total(lane, scaled);
  let bias = column_total(lane, plain);
  if (lane >= wide || c >= params.cols) { return; }
  let out = (params.first_part + group.y) * params.cols * (1u + BIAS) + c;
  sums[out] = weight;
  if (BIAS == 1u) { sums[out + params.cols] = bias; }
}
