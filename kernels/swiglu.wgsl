// swiglu: y[i] = silu(gate[i]) · up[i],  silu(g) = g · sigmoid(g)
//
// gate, up, y  n values, seen as vec4
// grid         folded: one invocation per four values
// parts        common/sigmoid.wgsl
// source       Shazeer 2020, eq. 6

override BLOCK: u32 = 64;

struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> gate: array<vec4f>;
@group(0) @binding(1) var<storage, read> up: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i * 4u < params.n) {
    let g = gate[i];
    y[i] = g * sigmoid(g) * up[i];
  }
}
