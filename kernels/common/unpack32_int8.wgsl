// 32 values of a row of int8 (lib/packed_layout.ts) against 32 of a. Each byte is moved to the top of its word, where
// it stands for q · 2^24.

const SCALED = true; // rows end in scales
const SHIFT: f32 = 0.0;

struct Values { v0: vec4u, v1: vec4u }

fn ready(x: vec4f) -> vec4f { return x; }

fn load32(start: u32, step: u32) -> Values {
  return Values(b4(start + 2u * step), b4(start + 2u * step + 1u));
}

// Where the scales of a row begin: 66 bytes per group, of which 64 are values.
fn scales_at(stride: u32) -> u32 { return 16u * stride / 66u * 4u; }

fn dot4(word: u32, x: vec4f, sum: vec4f) -> vec4f {
  let top = (vec4u(word) << vec4u(24u, 16u, 8u, 0u)) & vec4u(0xff000000u);
  return fma(vec4f(bitcast<vec4i>(top)), x, sum);
}

fn dot32(b32: Values, scales: vec4u, step: u32, x: Lefts, sum: vec4f) -> vec4f {
  var t = vec4f();
  t = dot4(b32.v0.x, x.v0, t);
  t = dot4(b32.v0.y, x.v1, t);
  t = dot4(b32.v0.z, x.v2, t);
  t = dot4(b32.v0.w, x.v3, t);
  t = dot4(b32.v1.x, x.v4, t);
  t = dot4(b32.v1.y, x.v5, t);
  t = dot4(b32.v1.z, x.v6, t);
  t = dot4(b32.v1.w, x.v7, t);
  return fma(vec4f(scale_of(scales, step) * 5.9604644775390625e-8), t, sum);
}
