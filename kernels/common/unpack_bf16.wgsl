// Rows of bf16, two values to a word, low half first; eight to a pack of 16 bytes. A row is `stride` packs. The kernel
// defines `b4`, a pack of its weights.

const PERIOD = 8u; // values in a pack

struct Pack { v: vec4u }

fn pack_at(row: u32, column: u32, stride: u32) -> Pack { return Pack(b4(row * stride + column / 8u)); }

fn unpack4(pack: Pack, column: u32) -> vec4f {
  let words = select(pack.v.xy, pack.v.zw, column / 4u % 2u == 1u);
  return bitcast<vec4f>(vec4u(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
