// add_rms_norm_backward: the gradient of both terms of a sum that is also normed, dsum being what else arrives at it.
// With n = sum · rstd and g = weight · dy,
//   dx[r, c] = dsum[r, c] + rstd_r · (g[r, c] - n[r, c] · mean_j g[r, j] n[r, j])
// and stats[r] = (0, rstd_r), from which norm_dweight makes the gradient of the weight
//
// sum, dy, dsum, dx  (rows, cols); weight (cols); stats (rows, 2); cols counted in packs
// grid               folded: LANES threads per row
// parts              common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> sum: array<pack>;
@group(0) @binding(1) var<storage, read> weight: array<pack>;
@group(0) @binding(2) var<storage, read> dy: array<pack>;
@group(0) @binding(3) var<storage, read> dsum: array<pack>;
@group(0) @binding(4) var<storage, read_write> dx: array<pack>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  var squares = 0.0;
  var along = 0.0;
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let v = sum[start + c];
    squares += pack_sum(v * v);
    along += pack_sum(v * weight[c] * dy[start + c]);
  }
  let count = f32(params.values);
  let rstd = 1.0 / sqrt(row_sum(lane, squares) / count + params.eps);
  let mean = row_sum(lane, along) * rstd / count;
  if (row >= params.rows) { return; }
  if (lane % LANES == 0u) { stats[row] = vec2f(0.0, rstd); }
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let d = rstd * (weight[c] * dy[start + c] - sum[start + c] * (rstd * mean));
    dx[start + c] = dsum[start + c] + d;
  }
}
