// gather_packed: y[i, c] = x[indices[i], c] as f32, and 0 where the index is negative
//
// x        packed rows of `stride` units of 16 bytes, of which this launch sees rows [first, first + count)
// indices  (n / packs); y (n / packs, packs), four values to a pack
// grid     folded: one invocation per pack of y
// parts    one of common/unpack_….wgsl

override BLOCK: u32 = 64;

struct Params { n: u32, packs: u32, stride: u32, first: u32, count: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4u>;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

fn b4(at: u32) -> vec4u { return x[at]; }

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let index = indices[i / params.packs];
  let row = u32(index) - params.first; // wraps around below first, and then exceeds count
  if (index < 0) {
    y[i] = vec4f();
  } else if (row < params.count) {
    let column = i % params.packs * 4u;
    y[i] = unpack4(pack_at(row, column, params.stride), column);
  }
}
