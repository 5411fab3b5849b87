// attention_lanes_keys: dx[j, g] = Σ_hi w_ij x[i, h] over the queries i and heads h of key head g, from the tiles
// w of attention_lanes_pairs: the gradients to the keys (w = ds, x = q) and to the values (w = p, x = dy). One
// 8-lane subgroup per block of 32 keys, key head and 4 HELD columns.
//
// tiles   (heads, tiles) of 256 vec4: 32 keys by 32 queries
// x       (queries, heads, D)             dx  (keys, heads / group, D)
// grid    (blocks of keys, key heads, D / 4 HELD)
// parts   common/attention_lanes.wgsl

override HELD: u32 = 8; // 1 to 8
override ADD: u32 = 0;  // 1: dx += …

struct Params {
  heads: u32, group: u32,
  columns: u32, // D / 4
  query_blocks: u32, key_blocks: u32,
  first_block: u32, end_block: u32, // blocks of queries whose tiles are there
  first_head: u32, end_head: u32,   // and heads
  first_tile: u32, tiles: u32,
  first_key_block: u32, first_key_head: u32, // those of grid (0, 0)
}

@group(0) @binding(0) var<storage, read> tiles: array<vec4f>;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<vec4i>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

fn store(at: u32, value: vec4f) {
  if (ADD == 1u) { dx[at] += value; } else { dx[at] = value; }
}

// The four values of four columns, for each of the lane's keys.
fn store_block(row: u32, end: u32, key_head: u32, column: u32, s: mat4x4f) {
  if (column >= params.columns) { return; }
  let by_key = transpose(s);
  let step = params.heads / params.group * params.columns;
  let at = row * step + key_head * params.columns + column;
  if (row < end) { store(at, by_key[0]); }
  if (row + 1u < end) { store(at + step, by_key[1]); }
  if (row + 2u < end) { store(at + 2u * step, by_key[2]); }
  if (row + 3u < end) { store(at + 3u * step, by_key[3]); }
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let key_block = params.first_key_block + group.x;
  let keys = vec4u(table[params.key_blocks + key_block]); // start, end, first and end of its blocks of queries
  let key_head = params.first_key_head + group.y;
  let first_column = group.z * HELD;
  let own_column = min(first_column + min(lane, HELD - 1u), params.columns - 1u);
  let step = params.heads * params.columns;
  let first_block = clamp(keys.z, params.first_block, params.end_block - 1u);
  let end_block = min(keys.w, params.end_block);
  var s0 = mat4x4f();
  var s1 = s0;
  var s2 = s0;
  var s3 = s0;
  var s4 = s0;
  var s5 = s0;
  var s6 = s0;
  var s7 = s0;
  let first_head = max(key_head * params.group, params.first_head);
  let heads = min((key_head + 1u) * params.group, params.end_head) - first_head;
  let blocks = max(end_block, first_block + 1u) - first_block;
  var i = 0u; // over the blocks of queries of each head
  // Loops end at their bottom: on software adapters a loop that ends at its top runs its body once more.
  loop {
    let head = first_head + i / blocks;
    let block_at = first_block + i % blocks;
    let block = vec4u(table[params.query_blocks + block_at]); // start, end, first block of keys, first tile
    let end_tile = u32(table[params.query_blocks + block_at + 1u].w);
    let tile = block.w + key_block - block.z;
    let there = block_at < end_block && key_block >= block.z && tile < end_tile;
    let known = select(0u, tile - params.first_tile, there);
    var at = ((head - params.first_head) * params.tiles + known) * TILE + 32u * lane;
    let start = head * params.columns + own_column;
    let last = block.y - 1u;
    var row = block.x;
    loop {
      let own = transpose(
        mat4x4f(
          x[min(row, last) * step + start], x[min(row + 1u, last) * step + start],
          x[min(row + 2u, last) * step + start], x[min(row + 3u, last) * step + start],
        ),
      );
      let four = mat4x4f(tiles[at], tiles[at + 8u], tiles[at + 16u], tiles[at + 24u]);
      let zero = vec4f();
      let w = transpose(
        mat4x4f(
          select(zero, four[0], there), select(zero, four[1], there),
          select(zero, four[2], there), select(zero, four[3], there),
        ),
      );
      s0 = multiply_add(s0, spread0(own), w);
      if (HELD > 1u) { s1 = multiply_add(s1, spread1(own), w); }
      if (HELD > 2u) { s2 = multiply_add(s2, spread2(own), w); }
      if (HELD > 3u) { s3 = multiply_add(s3, spread3(own), w); }
      if (HELD > 4u) { s4 = multiply_add(s4, spread4(own), w); }
      if (HELD > 5u) { s5 = multiply_add(s5, spread5(own), w); }
      if (HELD > 6u) { s6 = multiply_add(s6, spread6(own), w); }
      if (HELD > 7u) { s7 = multiply_add(s7, spread7(own), w); }
      at++;
      row += 4u;
      if (row >= block.y) { break; }
    }
    i++;
    if (i >= heads * blocks) { break; }
  }
  let row = keys.x + 4u * lane;
  store_block(row, keys.y, key_head, first_column, s0);
  if (HELD > 1u) { store_block(row, keys.y, key_head, first_column + 1u, s1); }
  if (HELD > 2u) { store_block(row, keys.y, key_head, first_column + 2u, s2); }
  if (HELD > 3u) { store_block(row, keys.y, key_head, first_column + 3u, s3); }
  if (HELD > 4u) { store_block(row, keys.y, key_head, first_column + 4u, s4); }
  if (HELD > 5u) { store_block(row, keys.y, key_head, first_column + 5u, s5); }
  if (HELD > 6u) { store_block(row, keys.y, key_head, first_column + 6u, s6); }
  if (HELD > 7u) { store_block(row, keys.y, key_head, first_column + 7u, s7); }
}
