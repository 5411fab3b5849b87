// unpack: y[r, c] = x[first + r, c], packed weights as f32
//
// x      (first + rows, 4 packs) packed rows of `stride` units of 16 bytes
// y      (rows, packs) row-major
// grid   folded: one invocation per four values
// parts  one of common/unpack_….wgsl

override BLOCK: u32 = 64;

struct Params { n: u32, packs: u32, stride: u32, first: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> params: Params;

fn b4(at: u32) -> vec4u { return x[at]; }

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let column = i % params.packs * 4u;
  y[i] = unpack4(pack_at(params.first + i / params.packs, column, params.stride), column);
}
