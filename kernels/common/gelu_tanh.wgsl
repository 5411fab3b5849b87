// GELU in the tanh form, 0.5 x (1 + tanh u) with u = sqrt(2/π) (x + 0.044715 x³), written as x · sigmoid(2u).
// Beyond |x| = 16 the sigmoid has long reached 0 or 1; the bound keeps x³ finite.
// source  Hendrycks & Gimpel 2016; needs common/sigmoid.wgsl

const TWICE_ROOT = 1.5957691216057308; // 2 sqrt(2/π)

fn gelu_tanh(x: vec4f) -> vec4f {
  let c = clamp(x, vec4f(-16.0), vec4f(16.0));
  return x * sigmoid(TWICE_ROOT * (c + 0.044715 * c * c * c));
}

fn gelu_tanh_slope(x: vec4f) -> vec4f {
  let c = clamp(x, vec4f(-16.0), vec4f(16.0));
  let s = sigmoid(TWICE_ROOT * (c + 0.044715 * c * c * c));
  return s + c * s * (1.0 - s) * TWICE_ROOT * (1.0 + 0.134145 * c * c);
}
