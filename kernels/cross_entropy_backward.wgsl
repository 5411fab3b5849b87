// cross_entropy_backward: dx[r, c] = dy[r] · (exp(x[r, c] - m_r) / Σ_r - [c = label_r]), 0 where ignored
//
// x, dx       (rows, cols), cols counted in packs; labels, dy (rows); stats (rows, 2) = (m_r, Σ_r)
// grid        folded: LANES threads per row
// parts       common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32, ignore: i32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> labels: array<i32>;
@group(0) @binding(2) var<storage, read> stats: array<vec2f>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<pack>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  if (row >= params.rows) { return; }
  let label = labels[row];
  let m = stats[row].x;
  let share = 1.0 / stats[row].y;
  let g = dy[row];
  let width = params.values / params.cols;
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let p = exp(x[start + c] - m) * share;
    if (label == params.ignore) {
      dx[start + c] = pack();
    } else {
      dx[start + c] = g * (p - pack_onehot(c * width, u32(label)));
    }
  }
}
