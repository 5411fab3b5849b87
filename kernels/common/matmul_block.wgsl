// One 4×4 step of a matrix product, shared by the matmul kernels: c + a·b with the four inner products in
// ascending k. Blocks are held as a[i] = row i over k, b[k] = row k over n, c[i] = row i over n.

fn multiply_row(c: vec4f, a: vec4f, b: mat4x4f) -> vec4f {
  return fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], c))));
}

fn multiply_add(c: mat4x4f, a: mat4x4f, b: mat4x4f) -> mat4x4f {
  return mat4x4f(
    multiply_row(c[0], a[0], b),
    multiply_row(c[1], a[1], b),
    multiply_row(c[2], a[2], b),
    multiply_row(c[3], a[3], b),
  );
}

fn store_block(row: u32, column: u32, plane: u32, block: mat4x4f) {
  store_row(row, column, plane, block[0]);
  store_row(row + 1u, column, plane, block[1]);
  store_row(row + 2u, column, plane, block[2]);
  store_row(row + 3u, column, plane, block[3]);
}
