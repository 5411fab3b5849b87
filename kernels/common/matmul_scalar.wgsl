// Operand access of the matmul kernels for rows that start anywhere: one value per load. Whatever lies past
// the last row, column or k reads as zero.

fn a_at(row: u32, k: u32) -> f32 {
  let m = min(row, params.rows - 1u);
  let i = min(k, params.inner - 1u);
  let at = select(m * params.a_stride + i, i * params.a_stride + m, TRANSPOSE_A == 1u);
  return select(0.0, a[params.a_start + at], k < params.inner);
}

fn a_row(row: u32, k: u32) -> vec4f {
  return vec4f(a_at(row, k), a_at(row, k + 1u), a_at(row, k + 2u), a_at(row, k + 3u));
}

fn load_a(row: u32, k: u32) -> mat4x4f {
  return mat4x4f(a_row(row, k), a_row(row + 1u, k), a_row(row + 2u, k), a_row(row + 3u, k));
}

fn b_at(k: u32, column: u32) -> f32 {
  let i = min(k, params.inner - 1u);
  let n = min(column, params.columns - 1u);
  let at = select(i * params.b_stride + n, n * params.b_stride + i, TRANSPOSE_B == 1u);
  return select(0.0, b[params.b_start + at], k < params.inner);
}

fn b_row(k: u32, column: u32) -> vec4f {
  return vec4f(b_at(k, column), b_at(k, column + 1u), b_at(k, column + 2u), b_at(k, column + 3u));
}

fn load_b(k: u32, column: u32) -> mat4x4f {
  return mat4x4f(b_row(k, column), b_row(k + 1u, column), b_row(k + 2u, column), b_row(k + 3u, column));
}

fn store_value(row: u32, column: u32, value: f32) {
  if (row >= params.rows || column >= params.columns) { return; }
  let at = row * params.c_stride + params.c_start + column;
  var sum = value;
  if (params.add_bias == 1u) { sum += bias[params.bias_start + column]; }
  if (params.add_to_c == 1u) { sum += c[at]; }
  c[at] = sum;
}

fn store_row(row: u32, column: u32, value: vec4f) {
  store_value(row, column, value.x);
  store_value(row, column + 1u, value.y);
  store_value(row, column + 2u, value.z);
  store_value(row, column + 3u, value.w);
}
