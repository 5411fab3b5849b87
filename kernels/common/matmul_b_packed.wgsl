// The right operand of the matmul kernels as packed rows of b_stride packs. Where b is stored transposed, the packs of
// four columns are held while k runs through them. Where k or a column is past the end, some value of the last row
// or column: its products are zero or never stored. Goes with one of the unpack_ parts.

struct Held { c0: Pack, c1: Pack, c2: Pack, c3: Pack }

fn hold(k: u32, column: u32) -> Held {
  if (TRANSPOSE_B == 0u) { return Held(); }
  let at = params.b_start + k;
  let last = params.columns - 1u;
  return Held(
    pack_at(min(column, last), at, params.b_stride),
    pack_at(min(column + 1u, last), at, params.b_stride),
    pack_at(min(column + 2u, last), at, params.b_stride),
    pack_at(min(column + 3u, last), at, params.b_stride),
  );
}

fn b_along_n(k: u32, n: u32) -> vec4f {
  return unpack4(pack_at(min(k, params.inner - 1u), n, params.b_stride), n);
}

fn load_b(held: Held, k: u32, column: u32) -> mat4x4f {
  if (TRANSPOSE_B == 0u) {
    let n = params.b_start + min(column, (params.columns - 1u) / 4u * 4u);
    return mat4x4f(b_along_n(k, n), b_along_n(k + 1u, n), b_along_n(k + 2u, n), b_along_n(k + 3u, n));
  }
  let at = params.b_start + k;
  return transpose(
    mat4x4f(unpack4(held.c0, at), unpack4(held.c1, at), unpack4(held.c2, at), unpack4(held.c3, at)),
  );
}
