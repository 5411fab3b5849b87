// attention_lanes: scores of blocks of 32 queries, as exp2(scale q[i, h] · k[j, g] - m) with the running maximum m of
// the tiles before and at this one; attention_lanes_mix makes y of them. One 8-lane subgroup per block of queries
// and head, over the tiles of 32 keys that the block may see.
//
// q       (queries, heads, D)            k   (keys, heads / group, D)
// table   blocks, see lib/ops/attention_mask.ts
// bits    from attention_lanes_mask
// tiles   (heads, tiles) records of 272 vec4: the tile, m of its 32 queries, and in the last of a block's
//         tiles 1 / Σ_j of its 32 queries
// lse     (heads, queries), natural logarithm
// grid    (blocks of queries, heads)
// parts   common/attention_lanes.wgsl

struct Params {
  queries: u32, heads: u32, group: u32,
  columns: u32, // head size in vec4
  query_blocks: u32, key_blocks: u32, // where they start in the table
  first_block: u32, first_head: u32, // those of grid (0, 0)
  first_tile: u32, tiles: u32,       // first tile of these blocks, tiles of a head in the buffer
  scale: f32, // times log2(e)
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<vec4i>;
@group(0) @binding(3) var<storage, read> bits: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> tiles: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

const RECORD = TILE + 16u;
const LN2 = 0.6931471805599453;

fn top_of(s: mat4x4f) -> vec4f { return max(max(s[0], s[1]), max(s[2], s[3])); }

fn sum_of(s: mat4x4f) -> vec4f { return (s[0] + s[1]) + (s[2] + s[3]); }

fn powers(s: mat4x4f, top: vec4f) -> mat4x4f {
  return mat4x4f(exp2(s[0] - top), exp2(s[1] - top), exp2(s[2] - top), exp2(s[3] - top));
}

fn store_block(at: u32, p: mat4x4f) {
  tiles[at] = p[0];
  tiles[at + 8u] = p[1];
  tiles[at + 16u] = p[2];
  tiles[at + 24u] = p[3];
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block_at = params.query_blocks + params.first_block + group.x;
  let block = vec4u(table[block_at]); // start, end, first block of keys, first tile
  let end_tile = u32(table[block_at + 1u].w);
  let head = params.first_head + group.y;
  let key_heads = params.heads / params.group;
  let key_head = head / params.group;
  let row = block.x + 4u * lane;
  let r0 = min(row, block.y - 1u);
  let r1 = min(row + 1u, block.y - 1u);
  let r2 = min(row + 2u, block.y - 1u);
  let r3 = min(row + 3u, block.y - 1u);
  let q0 = (r0 * params.heads + head) * params.columns;
  let q1 = (r1 * params.heads + head) * params.columns;
  let q2 = (r2 * params.heads + head) * params.columns;
  let q3 = (r3 * params.heads + head) * params.columns;

  var top = vec4f(UNSEEN);
  var total = vec4f();
  var key_block = params.key_blocks + block.z;
  var tile = block.w;
  var record = 0u;
  // Loops end at their bottom: on software adapters a loop that ends at its top runs its body once more.
  loop {
    let keys = vec4u(table[key_block]); // start, end
    let key = keys.x + 4u * lane;
    let j0 = min(key, keys.y - 1u);
    let j1 = min(key + 1u, keys.y - 1u);
    let j2 = min(key + 2u, keys.y - 1u);
    let j3 = min(key + 3u, keys.y - 1u);
    let k0 = (j0 * key_heads + key_head) * params.columns;
    let k1 = (j1 * key_heads + key_head) * params.columns;
    let k2 = (j2 * key_heads + key_head) * params.columns;
    let k3 = (j3 * key_heads + key_head) * params.columns;
    var s0 = mat4x4f();
    var s1 = s0;
    var s2 = s0;
    var s3 = s0;
    var s4 = s0;
    var s5 = s0;
    var s6 = s0;
    var s7 = s0;
    var c = 0u;
    loop {
      let x = transpose(mat4x4f(q[q0 + c], q[q1 + c], q[q2 + c], q[q3 + c]));
      let y = mat4x4f(k[k0 + c], k[k1 + c], k[k2 + c], k[k3 + c]);
      s0 = multiply_add(s0, spread0(y), x);
      s1 = multiply_add(s1, spread1(y), x);
      s2 = multiply_add(s2, spread2(y), x);
      s3 = multiply_add(s3, spread3(y), x);
      s4 = multiply_add(s4, spread4(y), x);
      s5 = multiply_add(s5, spread5(y), x);
      s6 = multiply_add(s6, spread6(y), x);
      s7 = multiply_add(s7, spread7(y), x);
      c++;
      if (c >= params.columns) { break; }
    }
    let seen = bits[(tile - params.first_tile) * 8u + lane];
    s0 = masked(s0, params.scale, seen, 0u);
    s1 = masked(s1, params.scale, seen, 4u);
    s2 = masked(s2, params.scale, seen, 8u);
    s3 = masked(s3, params.scale, seen, 12u);
    s4 = masked(s4, params.scale, seen, 16u);
    s5 = masked(s5, params.scale, seen, 20u);
    s6 = masked(s6, params.scale, seen, 24u);
    s7 = masked(s7, params.scale, seen, 28u);
    let low = max(max(top_of(s0), top_of(s1)), max(top_of(s2), top_of(s3)));
    let high = max(max(top_of(s4), top_of(s5)), max(top_of(s6), top_of(s7)));
    let next = max(top, max(low, high));
    s0 = powers(s0, next);
    s1 = powers(s1, next);
    s2 = powers(s2, next);
    s3 = powers(s3, next);
    s4 = powers(s4, next);
    s5 = powers(s5, next);
    s6 = powers(s6, next);
    s7 = powers(s7, next);
    let sum = ((sum_of(s0) + sum_of(s1)) + (sum_of(s2) + sum_of(s3))) +
      ((sum_of(s4) + sum_of(s5)) + (sum_of(s6) + sum_of(s7)));
    total = fma(total, exp2(top - next), sum); // wipes what fully masked tiles left behind
    top = next;
    record = (group.y * params.tiles + tile - params.first_tile) * RECORD + lane;
    store_block(record, s0);
    store_block(record + 32u, s1);
    store_block(record + 64u, s2);
    store_block(record + 96u, s3);
    store_block(record + 128u, s4);
    store_block(record + 160u, s5);
    store_block(record + 192u, s6);
    store_block(record + 224u, s7);
    tiles[record + TILE] = top;
    tile++;
    key_block++;
    if (tile >= end_tile) { break; }
  }
  tiles[record + TILE + 8u] = 1.0 / total;
  let logs = LN2 * (top + log2(total));
  let to = head * params.queries + row;
  if (row < block.y) { lse[to] = logs.x; }
  if (row + 1u < block.y) { lse[to + 1u] = logs.y; }
  if (row + 2u < block.y) { lse[to + 2u] = logs.z; }
  if (row + 3u < block.y) { lse[to + 3u] = logs.w; }
}
