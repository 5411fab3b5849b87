// sum: one stage of a sum of fixed order. Thread t of T adds every T-th group of four:
//   y[first + t] = factor · Σ_j term(x[4 (t + j T) …])
//
// x      n values, seen as vec4; y at least first + threads values
// grid   folded: one invocation per partial sum
// parts  one that defines term(v: vec4f) -> vec4f

override BLOCK: u32 = 64;

struct Params { n: u32, threads: u32, first: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let t = (group.y * groups.x + group.x) * BLOCK + lane;
  if (t >= params.threads) { return; }
  var sum = vec4f();
  let whole = params.n / 4u;
  for (var i = t; i < whole; i += params.threads) { sum += term(x[i]); }
  if (params.n % 4u != 0u && whole % params.threads == t) {
    let inside = vec4u(0u, 1u, 2u, 3u) < vec4u(params.n % 4u);
    sum += select(vec4f(), term(x[whole]), inside);
  }
  y[params.first + t] = params.factor * ((sum.x + sum.y) + (sum.z + sum.w));
}
