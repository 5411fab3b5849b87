// conv2d_pack: rearranges PyTorch's convolution weight for conv2d.wgsl: packed[tap, i, j], last row = bias
//
// weight  (O, C, k, k); forward: i = c, j = o; gradient of the input: i = o, j = c (chosen by the strides)
// bias    (J), read if has_bias
// packed  (taps·padded_i + 1, padded_j), zeros beyond (I, J)
// grid    folded: one invocation per packed value

override BLOCK: u32 = 64;

struct Params {
  taps: u32,
  size_i: u32,
  size_j: u32,
  padded_i: u32,
  padded_j: u32,
  stride_i: u32,
  stride_j: u32,
  has_bias: u32,
}

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  let rows = params.taps * params.padded_i;
  if (id >= (rows + 1u) * params.padded_j) { return; }
  let row = id / params.padded_j;
  let j = id % params.padded_j;
  let tap = row / params.padded_i;
  let i = row % params.padded_i;
  var value = 0.0;
  if (j < params.size_j) {
    if (row == rows) {
      if (params.has_bias != 0u) { value = bias[j]; }
    } else if (i < params.size_i) {
      value = weight[i * params.stride_i + j * params.stride_j + tap];
    }
  }
  packed[id] = value;
}
