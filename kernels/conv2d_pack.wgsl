// conv2d_pack: rearranges PyTorch's convolution weight for conv2d.wgsl: packed[tap, i, j], last row = bias
//
// weight  (O, C, k, k); forward: i = c, j = o; gradient of the input: i = o, j = c (chosen by the strides)
// bias    (J), read if has_bias
// packed  (taps·padded_i + 1, quads·4), zeros beyond (I, J)
// grid    folded: one invocation per i and four j, all taps, and one per four values of the bias

override BLOCK: u32 = 64;

struct Params {
  taps: u32,
  size_i: u32,
  size_j: u32,
  padded_i: u32,
  quads: u32,
  stride_i: u32,
  stride_j: u32,
  has_bias: u32,
}

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  let i = id / params.quads;
  let quad = id - i * params.quads;
  if (i > params.padded_i) { return; }
  // Columns past the end read the last one, of which nothing is taken.
  let j = 4u * quad + vec4u(0u, 1u, 2u, 3u);
  let last = vec4u(params.size_j - 1u);
  let inside = j <= last;
  let column = min(j, last);
  if (i == params.padded_i) {
    let value = vec4f(bias[column.x], bias[column.y], bias[column.z], bias[column.w]);
    let used = inside & vec4<bool>(params.has_bias != 0u);
    packed[params.taps * i * params.quads + quad] = select(vec4f(), value, used);
    return;
  }
  let used = inside & vec4<bool>(i < params.size_i);
  let start = min(i, params.size_i - 1u) * params.stride_i + column * params.stride_j;
  for (var tap = 0u; tap < params.taps; tap++) {
    let at = start + tap;
    let value = vec4f(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
    packed[(tap * params.padded_i + i) * params.quads + quad] = select(vec4f(), value, used);
  }
}
