// attention: y[i, h] = Σ_j p_ij v[j, g],  p_ij = exp(scale q[i, h] · k[j, g] - lse[h, i]),  g = h / group
// over the keys j that query i may attend to. A workgroup owns 32 queries of one head and passes over the keys
// in tiles of 32 with running maxima (Dao et al. 2022, algorithm 1), so that no score is stored; it writes
// 32 · SLICES columns of y, more columns take more workgroups.
//
// q, y    (queries, heads, D)           k, v  (keys, heads / group, D), D = 4 · columns
// lse     (heads, queries)              table mask entries and key ranges, see lib/ops/attention_mask.ts
// grid    (blocks of 32 queries, heads, slices of columns)
// parts   common/attention_mask.wgsl, common/attention_tile.wgsl

override SLICES: u32 = 4; // 1, 2 or 4

struct Params {
  queries: u32, keys: u32, heads: u32, group: u32, columns: u32,
  offset: u32,      // index of query 0 among the keys
  key_tokens: u32, key_ranges: u32, // where they start in the table
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> table: array<vec4i>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> shared_rows: array<vec4f, 64>; // a number for each thread's 4 rows

var<private> head: u32;
var<private> first_query: u32;
var<private> first_key: u32;

fn near_cell(kind: u32, row: u32, c: u32) -> vec4f {
  let i = min(first_query + row, params.queries - 1u);
  if (c >= params.columns) { return vec4f(0.0); }
  return q[(i * params.heads + head) * params.columns + c];
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

  var sum0 = mat4x4f();
  var sum1 = mat4x4f();
  var sum2 = mat4x4f();
  var sum3 = mat4x4f();
  var top = vec4f(-1e30);
  var total = vec4f(0.0);
  for (var tile = u32(range.x); tile < u32(range.y); tile += TILE) {
    first_key = tile;
    var m = pair_dots(0u, chunks, lane);
    var next = vec4f(-1e30);
    for (var j = 0u; j < 4u; j++) {
      let key = tile + lane % 8u + 8u * j;
      let seen = seen_by_four(query, min(key, params.keys - 1u));
      m[j] = select(vec4f(-1e30), m[j] * params.scale, seen & vec4<bool>(key < params.keys));
      next = max(next, m[j]);
    }
    shared_rows[lane] = next;
    workgroupBarrier();
    next = top;
    for (var x = 0u; x < 8u; x++) { next = max(next, shared_rows[lane / 8u * 8u + x]); }
    let keep = exp(top - next); // wipes what fully masked tiles left behind
    top = next;
    total *= keep;
    for (var j = 0u; j < 4u; j++) {
      m[j] = exp(m[j] - next);
      total += m[j];
    }
    store_weights(m, lane);
    sum0 = add_far(scaled(sum0, keep), 1u, slice, lane);
    if (SLICES > 1u) { sum1 = add_far(scaled(sum1, keep), 1u, slice + 1u, lane); }
    if (SLICES > 2u) {
      sum2 = add_far(scaled(sum2, keep), 1u, slice + 2u, lane);
      sum3 = add_far(scaled(sum3, keep), 1u, slice + 3u, lane);
    }
  }
  workgroupBarrier();
  shared_rows[lane] = total;
  workgroupBarrier();
  total = vec4f(0.0);
  for (var x = 0u; x < 8u; x++) { total += shared_rows[lane / 8u * 8u + x]; }
  store(query, slice, lane, scaled(sum0, 1.0 / total));
  if (SLICES > 1u) { store(query, slice + 1u, lane, scaled(sum1, 1.0 / total)); }
  if (SLICES > 2u) {
    store(query, slice + 2u, lane, scaled(sum2, 1.0 / total));
    store(query, slice + 3u, lane, scaled(sum3, 1.0 / total));
  }
  if (lane % 8u == 0u && group.z == 0u) {
    for (var r = 0u; r < 4u; r++) {
      if (query + r < params.queries) {
        lse[head * params.queries + query + r] = top[r] + log(total[r]);
      }
    }
  }
}

fn scaled(m: mat4x4f, s: vec4f) -> mat4x4f {
  return mat4x4f(m[0] * s.x, m[1] * s.y, m[2] * s.z, m[3] * s.w);
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
      y[((query + r) * params.heads + head) * params.columns + c] = rows[r];
    }
  }
}
