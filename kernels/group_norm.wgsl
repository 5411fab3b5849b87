// group_norm: u = (x - m) / σ · weight + bias with m, σ of the pixel's image and group; y = u, or u · sigmoid(u)
//
// x, y          (images, pixels, quads·4)
// stats         (images, quads·4, 2) from group_norm_merge.wgsl
// weight, bias  (quads·4)
// grid          folded: one invocation per image, run of pixels and four channels

override BLOCK: u32 = 64;
override SWISH: u32 = 0;   // 1: y = u · sigmoid(u)

struct Params { n: u32, pixels: u32, quads: u32, runs: u32, run: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> stats: array<vec4f>;
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let quad = id % params.quads;
  let run = (id / params.quads) % params.runs;
  let image = id / (params.quads * params.runs);
  let s = stats[2u * (image * params.quads + quad)];
  let t = stats[2u * (image * params.quads + quad) + 1u];
  let mean = vec4f(s.xz, t.xz);
  let scale = vec4f(s.yw, t.yw) * weight[quad];
  let shift = bias[quad];
  let end = min(params.pixels, (run + 1u) * params.run);
  for (var p = run * params.run; p < end; p++) {
    let at = (image * params.pixels + p) * params.quads + quad;
    let u = fma(x[at] - mean, scale, shift);
    if (SWISH == 1u) { y[at] = u / (1.0 + exp(-u)); } else { y[at] = u; }
  }
}
