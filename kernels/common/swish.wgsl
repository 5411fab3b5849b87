// d/du of u · σ(u), σ(u) = 1 / (1 + exp(-u)): σ (1 + u (1 - σ))
fn swish_slope(u: vec4f) -> vec4f {
  let s = 1.0 / (1.0 + exp(-u));
  return s * (1.0 + u * (1.0 - s));
}
