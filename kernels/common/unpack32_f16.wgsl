// 32 values of a row of f16, two to a word, low half first, against 32 of a.

const SCALED = false; // rows end in scales
const SHIFT: f32 = 0.0;

struct Values { v0: vec4u, v1: vec4u, v2: vec4u, v3: vec4u }

fn ready(x: vec4f) -> vec4f { return x; }

fn load32(start: u32, step: u32) -> Values {
  let at = start + 4u * step;
  return Values(b4(at), b4(at + 1u), b4(at + 2u), b4(at + 3u));
}

fn scales_at(stride: u32) -> u32 { return 0u; }

fn dot4(low: u32, high: u32, x: vec4f, sum: vec4f) -> vec4f {
  return fma(vec4f(unpack2x16float(low), unpack2x16float(high)), x, sum);
}

fn dot8(words: vec4u, x: vec4f, y: vec4f, sum: vec4f) -> vec4f {
  return dot4(words.z, words.w, y, dot4(words.x, words.y, x, sum));
}

fn dot32(b32: Values, scales: vec4u, step: u32, x: Lefts, sum: vec4f) -> vec4f {
  var t = sum;
  t = dot8(b32.v0, x.v0, x.v1, t);
  t = dot8(b32.v1, x.v2, x.v3, t);
  t = dot8(b32.v2, x.v4, x.v5, t);
  return dot8(b32.v3, x.v6, x.v7, t);
}
