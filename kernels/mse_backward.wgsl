// mse_backward: dpred[r, c] = dy[r] · 2 (pred[r, c] - goal[r, c]) / C, C the number of columns
//
// pred, goal, dpred  (rows, cols), cols counted in packs; dy (rows)
// grid               folded: LANES threads per row

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32 }

@group(0) @binding(0) var<storage, read> pred: array<pack>;
@group(0) @binding(1) var<storage, read> goal: array<pack>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dpred: array<pack>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  if (row >= params.rows) { return; }
  let slope = 2.0 * dy[row] / f32(params.values);
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    dpred[start + c] = slope * (pred[start + c] - goal[start + c]);
  }
}
