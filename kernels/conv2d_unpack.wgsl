// conv2d_unpack: dweight[o, c, tap] = Σ_s sums[s, tap, c, o], added in the order of s
//
// sums     (splits, taps, padded_c, quads·4) from conv2d_dweight.wgsl
// dweight  (O, C, taps) = PyTorch's (O, C, k, k)
// grid     folded: one invocation per tap, c and four o

override BLOCK: u32 = 64;

struct Params { outputs: u32, channels: u32, taps: u32, padded_c: u32, quads: u32, splits: u32 }

@group(0) @binding(0) var<storage, read> sums: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  let plane = params.channels * params.taps; // values of one o
  let quad = id / plane;
  let at = id - quad * plane; // c · taps + tap
  if (4u * quad >= params.outputs) { return; }
  let c = at / params.taps;
  let tap = at - c * params.taps;
  let size = params.taps * params.padded_c * params.quads;
  let start = (tap * params.padded_c + c) * params.quads + quad;
  var sum = vec4f();
  for (var s = 0u; s < params.splits; s++) { sum += sums[s * size + start]; }
  let o = 4u * quad;
  dweight[o * plane + at] = sum.x;
  if (o + 1u < params.outputs) { dweight[(o + 1u) * plane + at] = sum.y; }
  if (o + 2u < params.outputs) { dweight[(o + 2u) * plane + at] = sum.z; }
  if (o + 3u < params.outputs) { dweight[(o + 3u) * plane + at] = sum.w; }
}
