// latent_sample: z = (mean + exp(½ logvar) · noise - shift) · scale
//
// mean, logvar, noise, z  n values, seen as vec4 (buffers are padded to 256 bytes)
// grid                    folded: one invocation per four values

override BLOCK: u32 = 64;

struct Params { n: u32, scale: f32, shift: f32 }

@group(0) @binding(0) var<storage, read> mean: array<vec4f>;
@group(0) @binding(1) var<storage, read> logvar: array<vec4f>;
@group(0) @binding(2) var<storage, read> noise: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> z: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i * 4u >= params.n) { return; }
  z[i] = (fma(exp(0.5 * logvar[i]), noise[i], mean[i]) - params.shift) * params.scale;
}
