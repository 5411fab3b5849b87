// The right operand of the matmul kernels as packed rows, unpacked as they are read; b_stride counts words. Where
// k or a column is past the end, some value of the last row or column: its products are zero or never stored.
// Goes with one of the unpack_ parts.

fn word(at: u32) -> u32 { return b[at]; }

fn load_b(k: u32, column: u32) -> mat4x4f {
  let stride = params.b_stride;
  if (TRANSPOSE_B == 0u) {
    let n = params.b_start + min(column, (params.columns - 1u) / 4u * 4u);
    let last = params.inner - 1u;
    return mat4x4f(
      unpack4(min(k, last), n, stride),
      unpack4(min(k + 1u, last), n, stride),
      unpack4(min(k + 2u, last), n, stride),
      unpack4(min(k + 3u, last), n, stride),
    );
  }
  let at = params.b_start + k;
  let last = params.columns - 1u;
  return transpose(
    mat4x4f(
      unpack4(min(column, last), at, stride),
      unpack4(min(column + 1u, last), at, stride),
      unpack4(min(column + 2u, last), at, stride),
      unpack4(min(column + 3u, last), at, stride),
    ),
  );
}
