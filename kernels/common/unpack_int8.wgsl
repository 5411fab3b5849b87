// Rows of int8 (lib/packed_layout.ts): groups of 64 values in 4 packs of 16 bytes, then a bf16 scale per group. A row
// is `stride` packs: 66 bytes per group, filled up. The kernel defines `b4`, a pack of its weights.

const PERIOD = 16u; // values in a pack

struct Pack { v: vec4u, scale: f32 }

fn pack_at(row: u32, column: u32, stride: u32) -> Pack {
  let start = row * stride;
  let group = column / 64u;
  let pair = word_of(b4(start + 16u * stride / 66u * 4u + group / 8u), group / 2u);
  let scale = bitcast<f32>((pair >> (group % 2u * 16u)) << 16u);
  return Pack(b4(start + column / PERIOD), scale);
}

fn word_of(v: vec4u, index: u32) -> u32 {
  let i = index % 4u;
  return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i > 1u);
}

fn unpack4(pack: Pack, column: u32) -> vec4f {
  let q = bitcast<i32>(word_of(pack.v, column / 4u));
  return pack.scale * vec4f(vec4i(q << 24u, q << 16u, q << 8u, q) >> vec4u(24u));
}
