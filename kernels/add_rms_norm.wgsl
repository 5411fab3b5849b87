// add_rms_norm: sum = x + branch, and y[r, c] = sum[r, c] · weight[c] / sqrt(mean_j sum[r, j]² + eps)
//
// x, branch, sum, y  (rows, cols) row-major; weight (cols); cols counted in packs
// grid               folded: LANES threads per row
// parts              common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl
// source             Zhang & Sennrich 2019, eq. 4

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> branch: array<pack>;
@group(0) @binding(2) var<storage, read> weight: array<pack>;
@group(0) @binding(3) var<storage, read_write> sum: array<pack>;
@group(0) @binding(4) var<storage, read_write> y: array<pack>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  var sums = pack();
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let v = x[start + c] + branch[start + c];
    sums = fma(v, v, sums);
  }
  let squares = pack_sum(sums);
  let rstd = 1.0 / sqrt(row_sum(lane, squares) / f32(params.values) + params.eps);
  if (row >= params.rows) { return; }
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let v = x[start + c] + branch[start + c];
    sum[start + c] = v;
    y[start + c] = v * rstd * weight[c];
  }
}
