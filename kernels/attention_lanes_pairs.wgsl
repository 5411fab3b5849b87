// attention_lanes_pairs, the first step of attention's gradient: for blocks of 32 queries and the tiles of 32 keys
// they may see, p_ij = exp(scale q[i, h] · k[j, g] - lse[h, i]) and
// ds_ij = scale p_ij (dy[i, h] · v[j, g] - delta[h, i]). One 8-lane subgroup per block of queries and head.
//
// q, dy   (queries, heads, D)             k, v  (keys, heads / group, D)
// stats   (heads, queries) pairs (lse, delta)
// table   blocks, see lib/ops/attention_mask.ts
// bits    from attention_lanes_mask: none for rows behind a block, which belong to another one
// tiles   p, then ds: (heads, tiles) of 256 vec4, 32 keys by 32 queries
// grid    (blocks of queries, heads)
// parts   common/attention_lanes.wgsl

struct Params {
  queries: u32, heads: u32, group: u32,
  columns: u32, // head size in vec4
  query_blocks: u32, key_blocks: u32, // where they start in the table
  first_block: u32, first_head: u32, // those of grid (0, 0)
  first_tile: u32, tiles: u32,       // first tile of these blocks, tiles of a head in the buffer
  slopes: u32, // vec4 of all p: where ds start
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;
@group(0) @binding(4) var<storage, read> stats: array<vec2f>;
@group(0) @binding(5) var<storage, read> table: array<vec4i>;
@group(0) @binding(6) var<storage, read> bits: array<vec4u>;
@group(0) @binding(7) var<storage, read_write> tiles: array<vec4f>;
@group(0) @binding(8) var<uniform> params: Params;

const LOG2E = 1.4426950408889634;

fn powers(s: mat4x4f, top: vec4f) -> mat4x4f {
  return mat4x4f(exp2(s[0] - top), exp2(s[1] - top), exp2(s[2] - top), exp2(s[3] - top));
}

fn store_block(at: u32, p: mat4x4f, dp: mat4x4f) {
  tiles[at] = p[0];
  tiles[at + 8u] = p[1];
  tiles[at + 16u] = p[2];
  tiles[at + 24u] = p[3];
  let slope = params.slopes + at;
  tiles[slope] = p[0] * dp[0] * params.scale;
  tiles[slope + 8u] = p[1] * dp[1] * params.scale;
  tiles[slope + 16u] = p[2] * dp[2] * params.scale;
  tiles[slope + 24u] = p[3] * dp[3] * params.scale;
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
  let first = head * params.queries;
  let stat0 = stats[first + r0];
  let stat1 = stats[first + r1];
  let stat2 = stats[first + r2];
  let stat3 = stats[first + r3];
  let lse = LOG2E * vec4f(stat0.x, stat1.x, stat2.x, stat3.x);
  let delta = -vec4f(stat0.y, stat1.y, stat2.y, stat3.y);

  var key_block = params.key_blocks + block.z;
  var tile = block.w;
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
    let scale = LOG2E * params.scale;
    s0 = powers(masked(s0, scale, seen, 0u), lse);
    s1 = powers(masked(s1, scale, seen, 4u), lse);
    s2 = powers(masked(s2, scale, seen, 8u), lse);
    s3 = powers(masked(s3, scale, seen, 12u), lse);
    s4 = powers(masked(s4, scale, seen, 16u), lse);
    s5 = powers(masked(s5, scale, seen, 20u), lse);
    s6 = powers(masked(s6, scale, seen, 24u), lse);
    s7 = powers(masked(s7, scale, seen, 28u), lse);
    var d0 = mat4x4f(delta, delta, delta, delta);
    var d1 = d0;
    var d2 = d0;
    var d3 = d0;
    var d4 = d0;
    var d5 = d0;
    var d6 = d0;
    var d7 = d0;
    c = 0u;
    loop {
      let x = transpose(mat4x4f(dy[q0 + c], dy[q1 + c], dy[q2 + c], dy[q3 + c]));
      let y = mat4x4f(v[k0 + c], v[k1 + c], v[k2 + c], v[k3 + c]);
      d0 = multiply_add(d0, spread0(y), x);
      d1 = multiply_add(d1, spread1(y), x);
      d2 = multiply_add(d2, spread2(y), x);
      d3 = multiply_add(d3, spread3(y), x);
      d4 = multiply_add(d4, spread4(y), x);
      d5 = multiply_add(d5, spread5(y), x);
      d6 = multiply_add(d6, spread6(y), x);
      d7 = multiply_add(d7, spread7(y), x);
      c++;
      if (c >= params.columns) { break; }
    }
    let to = (group.y * params.tiles + tile - params.first_tile) * TILE + lane;
    store_block(to, s0, d0);
    store_block(to + 32u, s1, d1);
    store_block(to + 64u, s2, d2);
    store_block(to + 96u, s3, d3);
    store_block(to + 128u, s4, d4);
    store_block(to + 160u, s5, d5);
    store_block(to + 192u, s6, d6);
    store_block(to + 224u, s7, d7);
    tile++;
    key_block++;
    if (tile >= end_tile) { break; }
  }
}
