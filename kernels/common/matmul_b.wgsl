// The right operand of the matmul kernels as f32: 4×4 blocks, b[k] = row k over four columns.

fn b_along_n(k: u32, n: u32) -> vec4f {
  let at = (min(k, params.inner - 1u) * params.b_stride + n) / 4u;
  return select(vec4f(), b[at], k < params.inner);
}

fn load_b(k: u32, column: u32) -> mat4x4f {
  if (TRANSPOSE_B == 0u) {
    let n = min(params.b_start + column, params.b_stride - 4u);
    return mat4x4f(b_along_n(k, n), b_along_n(k + 1u, n), b_along_n(k + 2u, n), b_along_n(k + 3u, n));
  }
  let at = (params.b_start + k) / 4u;
  let stride = params.b_stride / 4u;
  let last = params.columns - 1u;
  return transpose(
    mat4x4f(
      b[min(column, last) * stride + at],
      b[min(column + 1u, last) * stride + at],
      b[min(column + 2u, last) * stride + at],
      b[min(column + 3u, last) * stride + at],
    ),
  );
}
