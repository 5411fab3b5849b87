// attention, backward to the queries: dq[i, h] = scale Σ_j p_ij (dy[i, h] · v[j, g] - delta[h, i]) k[j, g]
// with p_ij = exp(scale q[i, h] · k[j, g] - lse[h, i]) computed again. A workgroup owns 32 queries of one head
// and 32 · SLICES columns of dq (Dao et al. 2022, algorithm 4, with the loops exchanged).
//
// q, dy, dq  (queries, heads, D)       k, v  (keys, heads / group, D), D = 4 · columns
// stats      (heads, queries) pairs (lse, delta)
// grid       (blocks of 32 queries, heads, slices of columns)
// parts      common/attention_mask.wgsl, common/attention_tile.wgsl

override SLICES: u32 = 4; // 1, 2 or 4

struct Params {
  queries: u32, keys: u32, heads: u32, group: u32, columns: u32,
  offset: u32,
  key_tokens: u32, key_ranges: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> table: array<vec4i>;
@group(0) @binding(4) var<storage, read> dy: array<vec4f>;
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(7) var<uniform> params: Params;

var<private> head: u32;
var<private> first_query: u32;
var<private> first_key: u32;

fn near_cell(kind: u32, row: u32, c: u32) -> vec4f {
  let i = min(first_query + row, params.queries - 1u);
  if (c >= params.columns) { return vec4f(0.0); }
  let at = (i * params.heads + head) * params.columns + c;
  if (kind == 0u) { return q[at]; }
  return dy[at];
}

fn far_cell(kind: u32, row: u32, c: u32) -> vec4f {
  let j = min(first_key + row, params.keys - 1u);
  if (c >= params.columns) { return vec4f(0.0); }
  let at = (j * (params.heads / params.group) + head / params.group) * params.columns + c;
  if (kind == 0u) { return k[at]; }
  return v[at];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  head = group.y;
  first_query = group.x * TILE;
  let query = group.x * TILE + lane / 8u * 4u; // the first of this thread's four
  let slice = group.z * SLICES;
  let chunks = (params.columns + CHUNK - 1u) / CHUNK;
  let range = table[params.key_ranges + group.x];
  let four = four_queries(query);

  var sum0 = mat4x4f();
  var sum1 = mat4x4f();
  var sum2 = mat4x4f();
  var sum3 = mat4x4f();
  for (var tile = u32(range.x); tile < u32(range.y); tile += TILE) {
    first_key = tile;
    let dots = pair_dots(0u, chunks, lane);
    let dp = pair_dots(1u, chunks, lane);
    let key = tile + lane % 8u; // the first of this thread's four, 8 apart
    let ds0 = weights_of(dots[0], four, key) * (dp[0] - four.delta);
    let ds1 = weights_of(dots[1], four, key + 8u) * (dp[1] - four.delta);
    let ds2 = weights_of(dots[2], four, key + 16u) * (dp[2] - four.delta);
    let ds3 = weights_of(dots[3], four, key + 24u) * (dp[3] - four.delta);
    store_weights(mat4x4f(ds0, ds1, ds2, ds3), lane);
    sum0 = add_far(sum0, 0u, slice, lane);
    if (SLICES > 1u) { sum1 = add_far(sum1, 0u, slice + 1u, lane); }
    if (SLICES > 2u) {
      sum2 = add_far(sum2, 0u, slice + 2u, lane);
      sum3 = add_far(sum3, 0u, slice + 3u, lane);
    }
  }
  store(query, slice, lane, sum0);
  if (SLICES > 1u) { store(query, slice + 1u, lane, sum1); }
  if (SLICES > 2u) {
    store(query, slice + 2u, lane, sum2);
    store(query, slice + 3u, lane, sum3);
  }
}

fn stat(query: u32) -> vec2f {
  return stats[head * params.queries + min(query, params.queries - 1u)];
}

struct Four {
  first: u32, token0: vec4i, token1: vec4i, token2: vec4i, token3: vec4i, lse: vec4f, delta: vec4f,
}

// Four queries from `first` on with mask entries and numbers; those beyond the last repeat it and are not stored.
fn four_queries(first: u32) -> Four {
  let last = params.queries - 1u;
  let stat0 = stat(first);
  let stat1 = stat(first + 1u);
  let stat2 = stat(first + 2u);
  let stat3 = stat(first + 3u);
  return Four(
    first,
    table[min(first, last)],
    table[min(first + 1u, last)],
    table[min(first + 2u, last)],
    table[min(first + 3u, last)],
    vec4f(stat0.x, stat1.x, stat2.x, stat3.x),
    vec4f(stat0.y, stat1.y, stat2.y, stat3.y),
  );
}

// Probabilities of one key for four queries, from their products; 0 where it is not seen.
fn weights_of(dots: vec4f, four: Four, key: u32) -> vec4f {
  let token = table[params.key_tokens + min(key, params.keys - 1u)];
  let i = four.first + params.offset;
  let seen = vec4<bool>(
    may_attend(four.token0, i, token, key),
    may_attend(four.token1, i + 1u, token, key),
    may_attend(four.token2, i + 2u, token, key),
    may_attend(four.token3, i + 3u, token, key),
  );
  let p = exp(min(dots * params.scale - four.lse, vec4f(0.0)));
  return select(vec4f(0.0), p, seen & vec4<bool>(key < params.keys));
}

fn store(query: u32, slice: u32, lane: u32, rows: mat4x4f) {
  let c = slice * CHUNK + lane % 8u;
  for (var r = 0u; r < 4u; r++) {
    if (query + r < params.queries && c < params.columns) {
      dq[((query + r) * params.heads + head) * params.columns + c] = rows[r] * params.scale;
    }
  }
}
