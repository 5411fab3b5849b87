// layer_norm_backward: with n = (x - m) · rstd and g = weight · dy,
//   dx[r, c] = rstd_r · (g[r, c] - mean_j g[r, j] - n[r, c] · mean_j g[r, j] n[r, j])
// and stats[r] = (m_r, rstd_r), from which norm_dweight makes the gradients of weight and bias
//
// x, dy, dx  (rows, cols); weight (cols); stats (rows, 2); cols counted in packs
// grid       folded: LANES threads per row
// parts      common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> weight: array<pack>;
@group(0) @binding(2) var<storage, read> dy: array<pack>;
@group(0) @binding(3) var<storage, read_write> dx: array<pack>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  let count = f32(params.values);
  var total = 0.0;
  for (var c = lane % LANES; c < params.cols; c += LANES) { total += pack_sum(x[start + c]); }
  let mean = row_sum(lane, total) / count;
  var squares = 0.0;
  var plain = 0.0;
  var along = 0.0;
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let v = x[start + c] - mean;
    let g = weight[c] * dy[start + c];
    squares += pack_sum(v * v);
    plain += pack_sum(g);
    along += pack_sum(v * g);
  }
  let rstd = 1.0 / sqrt(row_sum(lane, squares) / count + params.eps);
  let g_mean = row_sum(lane, plain) / count;
  let gn_mean = row_sum(lane, along) * rstd / count;
  if (row >= params.rows) { return; }
  if (lane % LANES == 0u) { stats[row] = vec2f(mean, rstd); }
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let g = weight[c] * dy[start + c];
    dx[start + c] = rstd * (g - g_mean - (x[start + c] - mean) * (rstd * gn_mean));
  }
}
