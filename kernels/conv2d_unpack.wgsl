// conv2d_unpack: dweight[o, c, tap] = Σ_s sums[s, tap, c, o], added in the order of s
//
// sums  (splits, taps, padded_c, padded_o) from conv2d_dweight.wgsl
// dweight  (O, C, taps) = PyTorch's (O, C, k, k)
// grid     folded: one invocation per weight

override BLOCK: u32 = 64;

struct Params { n: u32, channels: u32, taps: u32, padded_c: u32, padded_o: u32, splits: u32 }

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let tap = id % params.taps;
  let c = (id / params.taps) % params.channels;
  let o = id / (params.taps * params.channels);
  let size = params.taps * params.padded_c * params.padded_o;
  let at = (tap * params.padded_c + c) * params.padded_o + o;
  var sum = 0.0;
  for (var s = 0u; s < params.splits; s++) { sum += sums[s * size + at]; }
  dweight[id] = sum;
}
