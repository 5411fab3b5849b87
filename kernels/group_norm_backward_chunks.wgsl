// group_norm_backward_chunks: per image, chunk of pixels and channel, Σ du and Σ du · x̂,
// with x̂ = (x - m) / σ and du the gradient before the activation
//
// x, dy         (images, pixels, quads·4)
// stats         (images, quads·4, 2) from group_norm_merge.wgsl
// weight, bias  (quads·4)
// sums          (images, chunks, 2, quads·4): Σ du, then Σ du · x̂
// grid          folded: one invocation per image, chunk and four channels
// parts         common/swish.wgsl

override BLOCK: u32 = 64;
override SWISH: u32 = 0;   // 1: y = u · sigmoid(u)

struct Params { n: u32, pixels: u32, quads: u32, chunks: u32, chunk: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read> stats: array<vec4f>;
@group(0) @binding(3) var<storage, read> weight: array<vec4f>;
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let quad = id % params.quads;
  let part = id / params.quads;
  let chunk = part % params.chunks;
  let image = part / params.chunks;
  let s = stats[2u * (image * params.quads + quad)];
  let t = stats[2u * (image * params.quads + quad) + 1u];
  let mean = vec4f(s.xz, t.xz);
  let scale = vec4f(s.yw, t.yw);
  let end = min(params.pixels, (chunk + 1u) * params.chunk);
  var plain = vec4f();
  var along = vec4f();
  for (var p = chunk * params.chunk; p < end; p++) {
    let at = (image * params.pixels + p) * params.quads + quad;
    let normal = (x[at] - mean) * scale;
    var du = dy[at];
    if (SWISH == 1u) { du *= swish_slope(fma(normal, weight[quad], bias[quad])); }
    plain += du;
    along = fma(du, normal, along);
  }
  sums[2u * part * params.quads + quad] = plain;
  sums[(2u * part + 1u) * params.quads + quad] = along;
}
