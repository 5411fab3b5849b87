// softmax: y[r, c] = exp(x[r, c] - m_r) / Σ_j exp(x[r, j] - m_r),  m_r = max_j x[r, j]
//
// x, y    (rows, cols) row-major; cols counted in packs
// grid    folded: LANES threads per row
// parts   common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read_write> y: array<pack>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  var top = -3.4e38;
  var total = 0.0;
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let v = x[start + c];
    let next = max(top, pack_max(v));
    total = total * exp(top - next) + pack_sum(exp(v - next));
    top = next;
  }
  let m = row_max(lane, top);
  let share = 1.0 / row_sum(lane, total * exp(top - m));
  if (row >= params.rows) { return; }
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    y[start + c] = exp(x[start + c] - m) * share;
  }
}
