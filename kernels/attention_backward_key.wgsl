// attention, backward to keys and values, over every query i and head h of the key's group:
//   dv[j, g] = Σ_hi p_ij dy[i, h],   dk[j, g] = scale Σ_hi p_ij (dy[i, h] · v[j, g] - delta[h, i]) q[i, h]
// A workgroup owns 32 keys of one key head and 32 · SLICES columns of dk and dv, and passes over the queries
// that see them, head by head (Dao et al. 2022, algorithm 4).
//
// q, dy      (queries, heads, D)       k, v, dk, dv  (keys, heads / group, D), D = 4 · columns
// stats      (heads, queries) pairs (lse, delta)
// grid       (blocks of 32 keys, heads / group, slices of columns)
// parts      common/attention_mask.wgsl, common/attention_tile.wgsl

override SLICES: u32 = 2; // 1 or 2

struct Params {
  queries: u32, keys: u32, heads: u32, group: u32, columns: u32,
  offset: u32,
  key_tokens: u32, query_ranges: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> table: array<vec4i>;
@group(0) @binding(4) var<storage, read> dy: array<vec4f>;
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4f>;
@group(0) @binding(8) var<uniform> params: Params;

var<private> head: u32;
var<private> first_query: u32;
var<private> first_key: u32;

fn near_cell(kind: u32, row: u32, c: u32) -> vec4f {
  let j = min(first_key + row, params.keys - 1u);
  if (c >= params.columns) { return vec4f(0.0); }
  let at = (j * (params.heads / params.group) + head / params.group) * params.columns + c;
  if (kind == 0u) { return k[at]; }
  return v[at];
}

fn far_cell(kind: u32, row: u32, c: u32) -> vec4f {
  let i = min(first_query + row, params.queries - 1u);
  if (c >= params.columns) { return vec4f(0.0); }
  let at = (i * params.heads + head) * params.columns + c;
  if (kind == 0u) { return q[at]; }
  return dy[at];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  first_key = group.x * TILE;
  let key = group.x * TILE + lane / 8u * 4u; // the first of this thread's four
  let slice = group.z * SLICES;
  let chunks = (params.columns + CHUNK - 1u) / CHUNK;
  let range = table[params.query_ranges + group.x];
  let four = four_keys(key);

  var dk0 = mat4x4f();
  var dk1 = mat4x4f();
  var dv0 = mat4x4f();
  var dv1 = mat4x4f();
  for (var h = group.y * params.group; h < (group.y + 1u) * params.group; h++) {
    head = h;
    for (var tile = u32(range.x); tile < u32(range.y); tile += TILE) {
      first_query = tile;
      let dots = pair_dots(0u, chunks, lane);
      let dp = pair_dots(1u, chunks, lane);
      let query = tile + lane % 8u; // the first of this thread's four, 8 apart
      let p = mat4x4f(
        weights_of(dots[0], four, query),
        weights_of(dots[1], four, query + 8u),
        weights_of(dots[2], four, query + 16u),
        weights_of(dots[3], four, query + 24u),
      );
      let ds = mat4x4f(
        p[0] * (dp[0] - stat(query).y),
        p[1] * (dp[1] - stat(query + 8u).y),
        p[2] * (dp[2] - stat(query + 16u).y),
        p[3] * (dp[3] - stat(query + 24u).y),
      );
      store_weights(p, lane);
      dv0 = add_far(dv0, 1u, slice, lane);
      if (SLICES > 1u) { dv1 = add_far(dv1, 1u, slice + 1u, lane); }
      workgroupBarrier();
      store_weights(ds, lane);
      dk0 = add_far(dk0, 0u, slice, lane);
      if (SLICES > 1u) { dk1 = add_far(dk1, 0u, slice + 1u, lane); }
    }
  }
  store(key, group.y, slice, lane, dk0, dv0);
  if (SLICES > 1u) { store(key, group.y, slice + 1u, lane, dk1, dv1); }
}

struct Four { first: u32, token0: vec4i, token1: vec4i, token2: vec4i, token3: vec4i }

// Four keys from `first` on with their mask entries; those beyond the last repeat its entry and are not stored.
fn four_keys(first: u32) -> Four {
  let last = params.keys - 1u;
  return Four(
    first,
    table[params.key_tokens + min(first, last)],
    table[params.key_tokens + min(first + 1u, last)],
    table[params.key_tokens + min(first + 2u, last)],
    table[params.key_tokens + min(first + 3u, last)],
  );
}

fn stat(query: u32) -> vec2f {
  return stats[head * params.queries + min(query, params.queries - 1u)];
}

// Probabilities of four keys for one query, from their products; 0 where it sees none.
fn weights_of(dots: vec4f, four: Four, query: u32) -> vec4f {
  let token = table[min(query, params.queries - 1u)];
  let i = query + params.offset;
  let seen = vec4<bool>(
    may_attend(token, i, four.token0, four.first),
    may_attend(token, i, four.token1, four.first + 1u),
    may_attend(token, i, four.token2, four.first + 2u),
    may_attend(token, i, four.token3, four.first + 3u),
  );
  let p = exp(min(dots * params.scale - stat(query).x, vec4f(0.0)));
  return select(vec4f(0.0), p, seen & vec4<bool>(query < params.queries));
}

fn store(key: u32, key_head: u32, slice: u32, lane: u32, k_rows: mat4x4f, v_rows: mat4x4f) {
  let c = slice * CHUNK + lane % 8u;
  for (var r = 0u; r < 4u; r++) {
    if (key + r < params.keys && c < params.columns) {
      let at = ((key + r) * (params.heads / params.group) + key_head) * params.columns + c;
      dk[at] = k_rows[r] * params.scale;
      dv[at] = v_rows[r];
    }
  }
}
