// clip_scale: factor = min(1, largest / (norm + 10⁻⁶)), norm = sqrt(squares); not a number where the norm
// is not finite, so that nothing computed with the factor can pass for a gradient
//
// squares  one value; factor one value, written as bits
// grid     one invocation

override BLOCK: u32 = 1;

struct Params { largest: f32, nan: u32 }

@group(0) @binding(0) var<storage, read> squares: array<f32>;
@group(0) @binding(1) var<storage, read_write> factor: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main() {
  let norm = sqrt(squares[0]) + 1e-6;
  let finite = (bitcast<u32>(squares[0]) & 0x7f800000u) != 0x7f800000u;
  let clipped = select(params.largest / norm, 1.0, norm <= params.largest);
  factor[0] = select(params.nan, bitcast<u32>(clipped), finite);
}
