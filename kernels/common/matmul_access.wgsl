// Left operand and result of the matmul kernels, 16 bytes at a time: all strides and starts are multiples of 4.
// Rows and columns past the end repeat the last ones (their products are never stored); k past the end reads
// as zero.

fn a_along_m(k: u32, m: u32) -> vec4f {
  let at = (min(k, params.inner - 1u) * params.a_stride + m) / 4u;
  return select(vec4f(), a4(at), k < params.inner);
}

fn load_a(row: u32, k: u32) -> mat4x4f {
  if (TRANSPOSE_A == 1u) {
    let m = min(params.a_start + row, params.a_stride - 4u);
    return transpose(
      mat4x4f(a_along_m(k, m), a_along_m(k + 1u, m), a_along_m(k + 2u, m), a_along_m(k + 3u, m)),
    );
  }
  let at = (params.a_start + k) / 4u;
  let stride = params.a_stride / 4u;
  let last = params.rows - 1u;
  return mat4x4f(
    a4(min(row, last) * stride + at),
    a4(min(row + 1u, last) * stride + at),
    a4(min(row + 2u, last) * stride + at),
    a4(min(row + 3u, last) * stride + at),
  );
}

fn store_row(row: u32, column: u32, plane: u32, value: vec4f) {
  if (row >= params.rows || column >= params.columns) { return; }
  let at = (plane + row * params.c_stride + params.c_start + column) / 4u;
  if (ADD_TO_C == 1u) {
    c[at] += value;
  } else {
    c[at] = value;
  }
}

// Where the sums over k of a split end.
fn last_k(split: u32) -> u32 {
  return min((split + 1u) * params.inner_step, params.inner);
}

// What four rows of sums start from.
fn first_sums(column: u32, split: u32) -> mat4x4f {
  var row = vec4f();
  if (params.add_bias == 1u && split == 0u) {
    let j = params.bias_start + column;
    row = vec4f(bias[j], bias[j + 1u], bias[j + 2u], bias[j + 3u]);
  }
  return mat4x4f(row, row, row, row);
}
