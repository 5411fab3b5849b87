// softmax_backward: dx[r, c] = y[r, c] · (dy[r, c] - Σ_j y[r, j] dy[r, j])
//
// y, dy, dx  (rows, cols) row-major; cols counted in packs
// grid       folded: LANES threads per row
// parts      common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> y: array<pack>;
@group(0) @binding(1) var<storage, read> dy: array<pack>;
@group(0) @binding(2) var<storage, read_write> dx: array<pack>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  var along = pack();
  for (var c = lane % LANES; c < params.cols; c += LANES) { along += y[start + c] * dy[start + c]; }
  let mean = row_sum(lane, pack_sum(along));
  if (row >= params.rows) { return; }
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    dx[start + c] = y[start + c] * (dy[start + c] - mean);
  }
}
