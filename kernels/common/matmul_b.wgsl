// The right operand of the matmul kernels as f32: 4×4 blocks, b[k] = row k over four columns. Nothing is held.

const PERIOD = 0x40000000u;

struct Held { nothing: u32 }

fn hold(k: u32, column: u32) -> Held { return Held(); }

fn b_along_n(k: u32, n: u32) -> vec4f {
  let at = (min(k, params.inner - 1u) * params.b_stride + n) / 4u;
  return select(vec4f(), bitcast<vec4f>(b4(at)), k < params.inner);
}

fn load_b(held: Held, k: u32, column: u32) -> mat4x4f {
  if (TRANSPOSE_B == 0u) {
    let n = min(params.b_start + column, params.b_stride - 4u);
    return mat4x4f(b_along_n(k, n), b_along_n(k + 1u, n), b_along_n(k + 2u, n), b_along_n(k + 3u, n));
  }
  let at = (params.b_start + k) / 4u;
  let stride = params.b_stride / 4u;
  let last = params.columns - 1u;
  return transpose(
    mat4x4f(
      bitcast<vec4f>(b4(min(column, last) * stride + at)),
      bitcast<vec4f>(b4(min(column + 1u, last) * stride + at)),
      bitcast<vec4f>(b4(min(column + 2u, last) * stride + at)),
      bitcast<vec4f>(b4(min(column + 3u, last) * stride + at)),
    ),
  );
}
