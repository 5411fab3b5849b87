// attention_lanes_mask: for each query of a block and tile of 32 keys the block may see, bits_j = 1 if the query sees
// key j of the tile. The other kernels of this family read them, for every head.
//
// table   mask entries and blocks, see lib/ops/attention_mask.ts
// bits    (tiles, 32 queries)
// grid    (blocks of queries)
// parts   common/attention_mask.wgsl

struct Params {
  offset: u32, // index of query 0 among the keys
  key_tokens: u32, query_blocks: u32, key_blocks: u32, // where they start in the table
  first_block: u32, first_tile: u32,
}

@group(0) @binding(0) var<storage, read> table: array<vec4i>;
@group(0) @binding(1) var<storage, read_write> bits: array<vec4u>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block_at = params.query_blocks + params.first_block + group.x;
  let block = vec4u(table[block_at]); // start, end, first block of keys, first tile
  let end_tile = u32(table[block_at + 1u].w);
  let row = block.x + 4u * lane;
  let index = row + params.offset;
  let q0 = table[min(row, block.y - 1u)];
  let q1 = table[min(row + 1u, block.y - 1u)];
  let q2 = table[min(row + 2u, block.y - 1u)];
  let q3 = table[min(row + 3u, block.y - 1u)];
  let real = vec4u(row) + vec4u(0u, 1u, 2u, 3u) < vec4u(block.y);
  var key_block = params.key_blocks + block.z;
  var tile = block.w;
  // Loops end at their bottom: on software adapters a loop that ends at its top runs its body once more.
  loop {
    let keys = vec4u(table[key_block]); // start, end
    var seen = vec4u();
    var bit = 1u;
    var key = keys.x;
    loop {
      let token = table[params.key_tokens + key];
      let sees = vec4<bool>(
        may_attend(q0, index, token, key),
        may_attend(q1, index + 1u, token, key),
        may_attend(q2, index + 2u, token, key),
        may_attend(q3, index + 3u, token, key),
      );
      seen |= select(vec4u(), vec4u(bit), sees & real);
      bit <<= 1u;
      key++;
      if (key >= keys.y) { break; }
    }
    bits[(tile - params.first_tile) * 8u + lane] = seen;
    tile++;
    key_block++;
    if (tile >= end_tile) { break; }
  }
}
