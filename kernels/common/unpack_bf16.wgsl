// Rows of bf16, two values to a word, low half first; a row is `stride` words, an even number. The kernel defines
// `word`, a word of its weights.

fn unpack4(row: u32, column: u32, stride: u32) -> vec4f {
  let at = row * stride + column / 2u;
  let lo = word(at);
  let hi = word(at + 1u);
  return bitcast<vec4f>(vec4u(lo << 16u, lo & 0xffff0000u, hi << 16u, hi & 0xffff0000u));
}
