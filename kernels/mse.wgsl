// mse: loss[r] = mean_c (pred[r, c] - goal[r, c])²
//
// pred, goal  (rows, cols), cols counted in packs; loss (rows)
// grid        folded: LANES threads per row
// parts       common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32 }

@group(0) @binding(0) var<storage, read> pred: array<pack>;
@group(0) @binding(1) var<storage, read> goal: array<pack>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  var total = pack();
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let d = pred[start + c] - goal[start + c];
    total += d * d;
  }
  let sum = row_sum(lane, pack_sum(total));
  if (row < params.rows && lane % LANES == 0u) { loss[row] = sum / f32(params.values); }
}
