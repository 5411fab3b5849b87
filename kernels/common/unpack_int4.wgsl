// Rows of int4 (lib/packed_layout.ts): groups of 64 values, each q + 8 in four bits, in 8 words, then a bf16 scale
// per group. A row is `stride` words: 34 bytes per group, filled up to 16. The kernel defines `word`, a word
// of its weights.

fn unpack4(row: u32, column: u32, stride: u32) -> vec4f {
  let start = row * stride;
  let scales = 4u * stride / 34u * 8u;
  let group = column / 64u;
  let pair = word(start + scales + group / 2u);
  let scale = bitcast<f32>((pair >> (group % 2u * 16u)) << 16u);
  let q = word(start + column / 8u) >> (column / 4u % 2u * 16u);
  return scale * (vec4f((vec4u(q) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u)) - 8.0);
}
