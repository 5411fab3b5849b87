// 32 values of a row of f32 against 32 of a.

const SCALED = false; // rows end in scales
const SHIFT: f32 = 0.0;

struct Values { v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f, v4: vec4f, v5: vec4f, v6: vec4f, v7: vec4f }

fn ready(x: vec4f) -> vec4f { return x; }

fn floats(at: u32) -> vec4f { return bitcast<vec4f>(b4(at)); }

fn load32(start: u32, step: u32) -> Values {
  let at = start + 8u * step;
  return Values(
    floats(at), floats(at + 1u), floats(at + 2u), floats(at + 3u),
    floats(at + 4u), floats(at + 5u), floats(at + 6u), floats(at + 7u),
  );
}

fn scales_at(stride: u32) -> u32 { return 0u; }

fn dot32(b32: Values, scales: vec4u, step: u32, x: Lefts, sum: vec4f) -> vec4f {
  var t = fma(b32.v0, x.v0, sum);
  t = fma(b32.v1, x.v1, t);
  t = fma(b32.v2, x.v2, t);
  t = fma(b32.v3, x.v3, t);
  t = fma(b32.v4, x.v4, t);
  t = fma(b32.v5, x.v5, t);
  t = fma(b32.v6, x.v6, t);
  return fma(b32.v7, x.v7, t);
}
