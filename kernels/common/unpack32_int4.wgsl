// 32 values of a row of int4 (lib/packed_layout.ts) against 32 of a. A value is q + 8 in four bits; it is left where
// it stands in its half word, so a is scaled down by 16^i, and 8 Σ a is taken off once for all columns.

const SCALED = true; // rows end in scales
const SHIFT: f32 = -8.0;

struct Values { v: vec4u }

fn ready(x: vec4f) -> vec4f { return x * vec4f(1.0, 0.0625, 0.00390625, 0.000244140625); }

fn load32(start: u32, step: u32) -> Values { return Values(b4(start + step)); }

// Where the scales of a row begin: 34 bytes per group, of which 32 are values.
fn scales_at(stride: u32) -> u32 { return 16u * stride / 34u * 2u; }

fn dot8(word: u32, x: vec4f, y: vec4f, sum: vec4f) -> vec4f {
  let places = vec4u(15u, 240u, 3840u, 61440u);
  let low = vec4f(vec4i(vec4u(word) & places));
  let high = vec4f(vec4i(vec4u(word >> 16u) & places));
  return fma(high, y, fma(low, x, sum));
}

fn dot32(b32: Values, scales: vec4u, step: u32, x: Lefts, sum: vec4f) -> vec4f {
  var t = vec4f(x.shift, 0.0, 0.0, 0.0);
  t = dot8(b32.v.x, x.v0, x.v1, t);
  t = dot8(b32.v.y, x.v2, x.v3, t);
  t = dot8(b32.v.z, x.v4, x.v5, t);
  t = dot8(b32.v.w, x.v6, x.v7, t);
  return fma(vec4f(scale_of(scales, step)), t, sum);
}
