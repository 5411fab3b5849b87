// round_bf16: y = x to the nearest bf16, ties to even; not a number stays that
//
// x     n values, seen as vec4
// y     n halves, low half of a word first
// grid  folded: one invocation per four values

override BLOCK: u32 = 64;

struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec2u>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i * 4u >= params.n) { return; }
  let bits = bitcast<vec4u>(x[i]);
  // A mantissa whose lower half alone says that it is no number would be cut to infinity.
  let nan = (bits & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
  let nearest = (bits + vec4u(0x7fffu) + ((bits >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u);
  let half = select(nearest, (bits >> vec4u(16u)) | vec4u(0x40u), nan);
  y[i] = half.xz | (half.yw << vec2u(16u));
}
