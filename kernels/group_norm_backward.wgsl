// group_norm_backward: dx = (weight · du - mean(weight · du) - x̂ · mean(weight · du · x̂)) / σ,
// the means over the pixel's image and group
//
// x, dy, dx     (images, pixels, quads·4)
// stats         (images, quads·4, 2) from group_norm_merge.wgsl
// sums          (images, 2, quads·4): Σ du and Σ du · x̂ over the pixels of each channel
// weight, bias  (quads·4)
// grid          folded: one invocation per image, run of pixels and four channels
// parts         common/swish.wgsl

override BLOCK: u32 = 64;
override SWISH: u32 = 0;   // 1: y = u · sigmoid(u)

struct Params { n: u32, pixels: u32, quads: u32, runs: u32, run: u32, per_group: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read> stats: array<vec4f>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4f>;
@group(0) @binding(7) var<uniform> params: Params;

// The two means over the group of channel c.
fn group_means(image: u32, c: u32) -> vec2f {
  let channels = 4u * params.quads;
  let first = c / params.per_group * params.per_group;
  let start = 2u * image * channels;
  var sum = vec2f();
  for (var k = first; k < first + params.per_group; k++) {
    sum += weight[k] * vec2f(sums[start + k], sums[start + channels + k]);
  }
  return sum / f32(params.pixels * params.per_group);
}

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
  let scale = vec4f(s.yw, t.yw);
  let m0 = group_means(image, 4u * quad);
  let m1 = group_means(image, 4u * quad + 1u);
  let m2 = group_means(image, 4u * quad + 2u);
  let m3 = group_means(image, 4u * quad + 3u);
  let plain = vec4f(m0.x, m1.x, m2.x, m3.x);
  let along = vec4f(m0.y, m1.y, m2.y, m3.y);
  let c = 4u * quad;
  let gain = vec4f(weight[c], weight[c + 1u], weight[c + 2u], weight[c + 3u]);
  let end = min(params.pixels, (run + 1u) * params.run);
  for (var p = run * params.run; p < end; p++) {
    let at = (image * params.pixels + p) * params.quads + quad;
    let normal = (x[at] - mean) * scale;
    var du = dy[at];
    if (SWISH == 1u) { du *= swish_slope(fma(normal, gain, bias[quad])); }
    dx[at] = scale * (gain * du - plain - normal * along);
  }
}
