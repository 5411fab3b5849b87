// swiglu_backward: with s = sigmoid(gate),
//   dup[i]   = gate · s · dy
//   dgate[i] = (s + gate · s · (1 - s)) · up · dy
//
// gate, up, dy, dgate, dup  n values, seen as vec4
// grid                      folded: one invocation per four values
// parts                     common/sigmoid.wgsl

override BLOCK: u32 = 64;

struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> gate: array<vec4f>;
@group(0) @binding(1) var<storage, read> up: array<vec4f>;
@group(0) @binding(2) var<storage, read> dy: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dgate: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dup: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i * 4u < params.n) {
    let g = gate[i];
    let s = sigmoid(g);
    let d = dy[i];
    dup[i] = g * s * d;
    dgate[i] = (s + g * s * (1.0 - s)) * up[i] * d;
  }
}
