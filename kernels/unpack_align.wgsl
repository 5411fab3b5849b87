// unpack_align: y[r, c] = x[r, c] where x has column c, else 0, both as 16-bit halves. Gives rows of halves a
// stride of whole words.
//
// x     (rows, from_columns) halves, row-major, two to a word, low half first
// y     (rows, to_words) words
// grid  folded: one invocation per word of y

override BLOCK: u32 = 64;

struct Params { n: u32, from_columns: u32, to_words: u32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

fn half(row: u32, column: u32) -> u32 {
  if (column >= params.from_columns) { return 0u; }
  let at = row * params.from_columns + column;
  return (x[at / 2u] >> (at % 2u * 16u)) & 0xffffu;
}

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let row = i / params.to_words;
  let column = i % params.to_words * 2u;
  y[i] = half(row, column) | (half(row, column + 1u) << 16u);
}
