// adamw_step: with g = factor · gradient,
//   m ← m + (1 - β1) (g - m),   v ← β2 v + (1 - β2) g²
//   w ← keep · w - rate · m / (sqrt(v) · v_scale + ε)
// keep = 1 - lr · decay, rate = lr / (1 - β1^t), v_scale = 1 / sqrt(1 - β2^t), from the host.
// Values whose g is not finite are left as they are, moments included.
//
// w, m, v, gradient  n values, seen as vec4; factor one value
// grid               folded: one invocation per four values
// source             Loshchilov & Hutter 2019, algorithm 2

override BLOCK: u32 = 64;

struct Params {
  n: u32,
  keep: f32,
  rate: f32,
  m_share: f32, // 1 - β1
  beta2: f32,
  v_share: f32, // 1 - β2
  v_scale: f32,
  epsilon: f32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(1) var<storage, read> factor: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

// Looks at the bits: compilers may assume that floats are finite.
fn finite(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7f800000u)) != vec4u(0x7f800000u);
}

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i * 4u >= params.n) { return; }
  let raw = gradient[i];
  let g = raw * factor[0];
  let usable = finite(raw) & finite(vec4f(factor[0])) & finite(g);
  let m_old = m[i];
  let v_old = v[i];
  let w_old = w[i];
  let m_new = m_old + params.m_share * (g - m_old);
  let v_new = params.beta2 * v_old + params.v_share * g * g;
  let step = params.rate * m_new / (sqrt(v_new) * params.v_scale + params.epsilon);
  m[i] = select(m_old, m_new, usable);
  v[i] = select(v_old, v_new, usable);
  w[i] = select(w_old, params.keep * w_old - step, usable);
}
