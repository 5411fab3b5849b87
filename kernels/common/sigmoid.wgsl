// The logistic function 1 / (1 + exp(-x)). The exponent is bounded, so that nothing overflows: below -87
// the result stays at 1.6e-38.

fn sigmoid(x: vec4f) -> vec4f { return 1.0 / (1.0 + exp(min(-x, vec4f(87.0)))); }
