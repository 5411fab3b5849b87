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
  let top = vec4f(stat(query).x, stat(query + 1u).x, stat(query + 2u).x, stat(query + 3u).x);
  let delta = vec4f(stat(query).y, stat(query + 1u).y, stat(query + 2u).y, stat(query + 3u).y);

  var sum0 = mat4x4f();
  var sum1 = mat4x4f();
  var sum2 = mat4x4f();
  var sum3 = mat4x4f();
  for (var tile = u32(range.x); tile < u32(range.y); tile += TILE) {
    first_key = tile;
    var m = pair_dots(0u, chunks, lane);
    let dp = pair_dots(1u, chunks, lane);
    for (var j = 0u; j < 4u; j++) {
      let key = tile + lane % 8u + 8u * j;
      let seen = seen_by_four(query, min(key, params.keys - 1u));
      let p = exp(min(m[j] * params.scale - top, vec4f(0.0)));
      m[j] = select(vec4f(0.0), p * (dp[j] - delta), seen & vec4<bool>(key < params.keys));
    }
    store_weights(m, lane);
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

// Which of the four queries from `query` on see the key; those beyond the last repeat it.
fn seen_by_four(query: u32, key: u32) -> vec4<bool> {
  let token = table[params.key_tokens + key];
  let last = params.queries - 1u;
  return vec4<bool>(
    sees(min(query, last), token, key), sees(min(query + 1u, last), token, key),
    sees(min(query + 2u, last), token, key), sees(min(query + 3u, last), token, key),
  );
}

fn sees(query: u32, token: vec4i, key: u32) -> bool {
  return may_attend(table[query], query + params.offset, token, key);
}

fn store(query: u32, slice: u32, lane: u32, rows: mat4x4f) {
  let c = slice * CHUNK + lane % 8u;
  for (var r = 0u; r < 4u; r++) {
    if (query + r < params.queries && c < params.columns) {
      dq[((query + r) * params.heads + head) * params.columns + c] = rows[r] * params.scale;
    }
  }
}
