// cross_entropy: loss[r] = log Σ_j exp(x[r, j] - m_r) + m_r - x[r, label_r],  m_r = max_j x[r, j],
//   0 where the label is `ignore`, not a number where it is no column
//
// x       (rows, cols) logits, cols counted in packs; labels, loss (rows)
// stats   (rows, 2) = (m_r, Σ_j exp(x[r, j] - m_r)), for the gradient
// grid    folded: LANES threads per row
// parts   common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32, values: u32, ignore: i32, nan: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> labels: array<i32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let start = min(row, params.rows - 1u) * params.cols;
  var largest = x[start];
  for (var c = lane % LANES; c < params.cols; c += LANES) { largest = max(largest, x[start + c]); }
  let m = row_max(lane, pack_max(largest));
  var total = pack();
  for (var c = lane % LANES; c < params.cols; c += LANES) { total += exp(x[start + c] - m); }
  let sum = row_sum(lane, pack_sum(total));
  if (row >= params.rows || lane % LANES != 0u) { return; }
  stats[row] = vec2f(m, sum);
  let label = labels[row];
  if (label == params.ignore) {
    loss[row] = 0.0;
  } else if (label < 0 || label >= i32(params.values)) {
    loss[row] = bitcast<f32>(params.nan);
  } else {
    let width = params.values / params.cols;
    let chosen = pack_at(x[start + u32(label) / width], u32(label) % width);
    loss[row] = log(sum) + (m - chosen);
  }
}
