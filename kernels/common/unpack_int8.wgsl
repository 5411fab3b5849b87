// Rows of int8 (lib/packed_layout.ts): groups of 64 values in 16 words, then a bf16 scale per group. A row is
// `stride` words: 66 bytes per group, filled up to 16. The kernel defines `word`, a word of its weights.

fn unpack4(row: u32, column: u32, stride: u32) -> vec4f {
  let start = row * stride;
  let scales = 4u * stride / 66u * 16u;
  let group = column / 64u;
  let pair = word(start + scales + group / 2u);
  let scale = bitcast<f32>((pair >> (group % 2u * 16u)) << 16u);
  let q = bitcast<i32>(word(start + column / 4u));
  return scale * vec4f(vec4i(q << 24u, q << 16u, q << 8u, q) >> vec4u(24u));
}
