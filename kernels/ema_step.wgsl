// ema_step: average ← d · average + (1 - d) · x; nothing changes where guard is not a finite number
//
// average, x  n values, seen as vec4; guard one value
// grid        folded: one invocation per four values

override BLOCK: u32 = 64;

struct Params { n: u32, decay: f32, share: f32 } // share = 1 - decay, rounded once

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> guard: array<u32>;
@group(0) @binding(2) var<storage, read_write> average: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  let held = (guard[0] & 0x7f800000u) == 0x7f800000u; // the bits: compilers may assume that floats are finite
  if (i * 4u < params.n && !held) { average[i] = params.decay * average[i] + params.share * x[i]; }
}
