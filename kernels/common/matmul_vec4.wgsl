// Operand access of the matmul kernels when every row starts on 16 bytes: all strides, starts and the
// contiguous extents are multiples of 4. Rows and columns past the end repeat the last ones (their
// products are never stored); k past the end reads as zero in both operands.

fn a_along_m(k: u32, row: u32) -> vec4f {
  let at = (min(k, params.inner - 1u) * params.a_stride + params.a_start + row) / 4u;
  return select(vec4f(), a[at], k < params.inner);
}

fn load_a(row: u32, k: u32) -> mat4x4f {
  if (TRANSPOSE_A == 1u) {
    let r = min(row, params.rows - 4u);
    return transpose(
      mat4x4f(a_along_m(k, r), a_along_m(k + 1u, r), a_along_m(k + 2u, r), a_along_m(k + 3u, r)),
    );
  }
  let at = (params.a_start + k) / 4u;
  let stride = params.a_stride / 4u;
  let last = params.rows - 1u;
  return mat4x4f(
    a[min(row, last) * stride + at],
    a[min(row + 1u, last) * stride + at],
    a[min(row + 2u, last) * stride + at],
    a[min(row + 3u, last) * stride + at],
  );
}

fn b_along_n(k: u32, column: u32) -> vec4f {
  let at = (min(k, params.inner - 1u) * params.b_stride + params.b_start + column) / 4u;
  return select(vec4f(), b[at], k < params.inner);
}

fn load_b(k: u32, column: u32) -> mat4x4f {
  if (TRANSPOSE_B == 0u) {
    let c = min(column, params.columns - 4u);
    return mat4x4f(b_along_n(k, c), b_along_n(k + 1u, c), b_along_n(k + 2u, c), b_along_n(k + 3u, c));
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

fn store_row(row: u32, column: u32, value: vec4f) {
  if (row >= params.rows || column >= params.columns) { return; }
  let at = (row * params.c_stride + params.c_start + column) / 4u;
  var sum = value;
  if (params.add_bias == 1u) {
    let j = params.bias_start + column;
    sum += vec4f(bias[j], bias[j + 1u], bias[j + 2u], bias[j + 3u]);
  }
  if (params.add_to_c == 1u) { sum += c[at]; }
  c[at] = sum;
}
