// Sums of the matmul kernels for few rows: 32 values of k at a time, one column (a stored row of b) against up to
// four rows of a. Goes with one of the unpack32_ parts, which knows how 32 values of b are stored.

// Rows a of one step: 32 values in eight vec4f, made ready by `ready`, and SHIFT · their sum.
struct Lefts { v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f, v4: vec4f, v5: vec4f, v6: vec4f, v7: vec4f, shift: f32 }
struct Rows { r0: Lefts, r1: Lefts, r2: Lefts, r3: Lefts }
// Sums of one column for each row, four partial sums to be added up at the end.
struct Sums { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f }

// A group's scale: eight bf16 scales of 64 values each are kept in a vec4u.
fn scale_of(scales: vec4u, step: u32) -> f32 {
  let group = step / 2u;
  let word = group / 2u % 4u;
  let pair = select(
    select(scales.x, scales.y, word == 1u),
    select(scales.z, scales.w, word == 3u),
    word > 1u,
  );
  return bitcast<f32>((pair >> (group % 2u * 16u)) << 16u);
}

// Values k … k + 3 of a row, zero past the end.
fn left(row: u32, k: u32) -> vec4f {
  let at = min(row, params.rows - 1u) * params.a_stride + k;
  return select(vec4f(), a4(at / 4u), k < params.inner);
}

fn total(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }

fn add_column(sums: Sums, b32: Values, scales: vec4u, step: u32, x: Rows) -> Sums {
  var s = sums;
  s.r0 = dot32(b32, scales, step, x.r0, s.r0);
  if (ROWS > 1u) { s.r1 = dot32(b32, scales, step, x.r1, s.r1); }
  if (ROWS > 2u) {
    s.r2 = dot32(b32, scales, step, x.r2, s.r2);
    s.r3 = dot32(b32, scales, step, x.r3, s.r3);
  }
  return s;
}

fn store(row: u32, column: u32, sum: f32) {
  if (row >= params.rows || column >= params.columns) { return; }
  var value = sum;
  if (params.add_bias == 1u) { value += bias[params.bias_start + column]; }
  c[row * params.c_stride + params.c_start + column] = value;
}
