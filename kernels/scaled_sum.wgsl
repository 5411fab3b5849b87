// scaled_sum: z[i] = a · x[i] + b · y[i], a and b read from one-element buffers
//
// x, y, z  n values, seen as vec4
// a, b     one value each: clipping factors that the host never reads
// grid     folded: one invocation per four values

override BLOCK: u32 = 64;

struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> y: array<vec4f>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i * 4u < params.n) { z[i] = a[0] * x[i] + b[0] * y[i]; }
}
