// attention_lanes_mix: y[i, h] = Σ_j p_ij x[j, g] over the tiles of keys j that a block of 32 queries i may see: the
// last step of attention (x = v, p from attention_lanes) and its gradient to the queries (x = k, p from
// attention_lanes_pairs). One 8-lane subgroup per block of queries and 4 HELD columns.
//
// tiles   (heads, tiles) records, each starting with the 256 vec4 of a tile (32 keys, 32 queries)
// x       (keys, heads / group, D)        y   (queries, heads, D)
// grid    (blocks of queries, heads, D / 4 HELD)
// parts   common/attention_lanes.wgsl

override HELD: u32 = 8;    // 1 to 8
override WEIGHED: u32 = 1; // 1: records go on with running maxima and, the last of a block, 1 / Σ_j

struct Params {
  heads: u32, group: u32,
  columns: u32, // D / 4
  query_blocks: u32, key_blocks: u32,
  first_block: u32, first_head: u32,
  first_tile: u32, tiles: u32,
}

@group(0) @binding(0) var<storage, read> tiles: array<vec4f>;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<vec4i>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

// The four values of four columns, for each of the lane's queries.
fn store_block(row: u32, end: u32, head: u32, column: u32, s: mat4x4f) {
  if (column >= params.columns) { return; }
  let by_query = transpose(s);
  let step = params.heads * params.columns;
  let at = (row * params.heads + head) * params.columns + column;
  if (row < end) { y[at] = by_query[0]; }
  if (row + 1u < end) { y[at + step] = by_query[1]; }
  if (row + 2u < end) { y[at + 2u * step] = by_query[2]; }
  if (row + 3u < end) { y[at + 3u * step] = by_query[3]; }
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block_at = params.query_blocks + params.first_block + group.x;
  let block = vec4u(table[block_at]); // start, end, first block of keys, first tile
  let end_tile = u32(table[block_at + 1u].w);
  let head = params.first_head + group.y;
  let key_heads = params.heads / params.group;
  let first_column = group.z * HELD;
  let own_column = min(first_column + min(lane, HELD - 1u), params.columns - 1u);
  let start = head / params.group * params.columns + own_column;
  let step = key_heads * params.columns;
  let record = TILE + 16u * WEIGHED;
  let records = (group.y * params.tiles - params.first_tile) * record;
  var top = vec4f();
  var share = vec4f(1.0);
  if (WEIGHED == 1u) {
    let last = records + (end_tile - 1u) * record + TILE + lane;
    top = tiles[last];
    share = tiles[last + 8u];
  }
  var s0 = mat4x4f();
  var s1 = s0;
  var s2 = s0;
  var s3 = s0;
  var s4 = s0;
  var s5 = s0;
  var s6 = s0;
  var s7 = s0;
  var key_block = params.key_blocks + block.z;
  var tile = block.w;
  // Loops end at their bottom: on software adapters a loop that ends at its top runs its body once more.
  loop {
    let keys = vec4u(table[key_block]); // start, end
    let last = keys.y - 1u;
    var at = records + tile * record + lane;
    var weight = vec4f(1.0);
    if (WEIGHED == 1u) { weight = share * exp2(tiles[at + TILE] - top); }
    var key = keys.x;
    loop {
      let own = transpose(
        mat4x4f(
          x[min(key, last) * step + start], x[min(key + 1u, last) * step + start],
          x[min(key + 2u, last) * step + start], x[min(key + 3u, last) * step + start],
        ),
      );
      var p = mat4x4f(tiles[at], tiles[at + 8u], tiles[at + 16u], tiles[at + 24u]);
      if (WEIGHED == 1u) {
        p = mat4x4f(p[0] * weight, p[1] * weight, p[2] * weight, p[3] * weight);
      }
      s0 = multiply_add(s0, spread0(own), p);
      if (HELD > 1u) { s1 = multiply_add(s1, spread1(own), p); }
      if (HELD > 2u) { s2 = multiply_add(s2, spread2(own), p); }
      if (HELD > 3u) { s3 = multiply_add(s3, spread3(own), p); }
      if (HELD > 4u) { s4 = multiply_add(s4, spread4(own), p); }
      if (HELD > 5u) { s5 = multiply_add(s5, spread5(own), p); }
      if (HELD > 6u) { s6 = multiply_add(s6, spread6(own), p); }
      if (HELD > 7u) { s7 = multiply_add(s7, spread7(own), p); }
      at += 32u;
      key += 4u;
      if (key >= keys.y) { break; }
    }
    tile++;
    key_block++;
    if (tile >= end_tile) { break; }
  }
  let row = block.x + 4u * lane;
  store_block(row, block.y, head, first_column, s0);
  if (HELD > 1u) { store_block(row, block.y, head, first_column + 1u, s1); }
  if (HELD > 2u) { store_block(row, block.y, head, first_column + 2u, s2); }
  if (HELD > 3u) { store_block(row, block.y, head, first_column + 3u, s3); }
  if (HELD > 4u) { store_block(row, block.y, head, first_column + 4u, s4); }
  if (HELD > 5u) { store_block(row, block.y, head, first_column + 5u, s5); }
  if (HELD > 6u) { store_block(row, block.y, head, first_column + 6u, s6); }
  if (HELD > 7u) { store_block(row, block.y, head, first_column + 7u, s7); }
}
