// Rows of f16, two values to a word, low half first; a row is `stride` words, an even number. The kernel defines
// `word`, a word of its weights.

fn unpack4(row: u32, column: u32, stride: u32) -> vec4f {
  let at = row * stride + column / 2u;
  return vec4f(unpack2x16float(word(at)), unpack2x16float(word(at + 1u)));
}
