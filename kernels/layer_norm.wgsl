// layer_norm: y[r, c] = (x[r, c] - m_r) · rstd_r · weight[c] + bias[c],
//   m_r = mean_j x[r, j],  rstd_r = 1 / sqrt(mean_j (x[r, j] - m_r)² + eps)
//
// x, y    (rows, cols) row-major; weight, bias (cols); cols counted in packs
// grid    folded: LANES threads per row
// parts   common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl
// source  Ba et al. 2016, eq. 4; the variance is merged from parts, each around its own mean (Chan et al. 1983)

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> weight: array<pack>;
@group(0) @binding(2) var<storage, read> bias: array<pack>;
@group(0) @binding(3) var<storage, read_write> y: array<pack>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  let count = f32(params.values);
  // Mean and squared deviations of a thread's values, pack by pack, then of the row's threads.
  let width = pack_sum(pack(1.0));
  var seen = 0.0;
  var own_mean = 0.0;
  var own_squares = 0.0;
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let v = x[start + c];
    let here = pack_sum(v) / width;
    let apart = here - own_mean;
    let share = width / (seen + width);
    own_squares += pack_sum((v - here) * (v - here)) + apart * apart * seen * share;
    own_mean += apart * share;
    seen += width;
  }
  let mean = row_sum(lane, seen * own_mean) / count;
  let squares = row_sum(lane, own_squares + seen * (own_mean - mean) * (own_mean - mean));
  let rstd = 1.0 / sqrt(squares / count + params.eps);
  if (row >= params.rows) { return; }
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    y[start + c] = (x[start + c] - mean) * rstd * weight[c] + bias[c];
  }
}
