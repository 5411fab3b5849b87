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
  let four = four_queries(query);

  var sum0 = mat4x4f();
  var sum1 = mat4x4f();
  var sum2 = mat4x4f();
  var sum3 = mat4x4f();
  var top = vec4f(-1e30);
  var total = vec4f(0.0);
  for (var tile = u32(range.x); tile < u32(range.y); tile += TILE) {
    first_key = tile;
    let dots = pair_dots(0u, chunks, lane);
    let key = tile + lane % 8u; // the first of this thread's four, 8 apart
    let m0 = scores(dots[0], four, key);
    let m1 = scores(dots[1], four, key + 8u);
    let m2 = scores(dots[2], four, key + 16u);
    let m3 = scores(dots[3], four, key + 24u);
    shared_rows[lane] = max(max(m0, m1), max(m2, m3));
    workgroupBarrier();
    let next = max(top, largest(lane / 8u * 8u));
    let keep = exp(top - next); // wipes what fully masked tiles left behind
    top = next;
    let p = mat4x4f(exp(m0 - next), exp(m1 - next), exp(m2 - next), exp(m3 - next));
    total = total * keep + p[0] + p[1] + p[2] + p[3];
    store_weights(p, lane);
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

struct Four { first: u32, token0: vec4i, token1: vec4i, token2: vec4i, token3: vec4i }

// Four queries from `first` on with their mask entries; those beyond the last repeat its entry and are not stored.
fn four_queries(first: u32) -> Four {
  let last = params.queries - 1u;
  return Four(
    first,
    table[min(first, last)],
    table[min(first + 1u, last)],
    table[min(first + 2u, last)],
    table[min(first + 3u, last)],
  );
}

// Scores of one key for four queries, from their products; a key that is not seen gets next to nothing.
fn scores(dots: vec4f, four: Four, key: u32) -> vec4f {
  let token = table[params.key_tokens + min(key, params.keys - 1u)];
  let i = four.first + params.offset;
  let seen = vec4<bool>(
    may_attend(four.token0, i, token, key),
    may_attend(four.token1, i + 1u, token, key),
    may_attend(four.token2, i + 2u, token, key),
    may_attend(four.token3, i + 3u, token, key),
  );
  return select(vec4f(-1e30), dots * params.scale, seen & vec4<bool>(key < params.keys));
}

// The largest of what the eight threads of a row of pairs put down.
fn largest(at: u32) -> vec4f {
  return max(
    max(max(shared_rows[at], shared_rows[at + 1u]), max(shared_rows[at + 2u], shared_rows[at + 3u])),
    max(max(shared_rows[at + 4u], shared_rows[at + 5u]), max(shared_rows[at + 6u], shared_rows[at + 7u])),
  );
}

fn store(query: u32, slice: u32, lane: u32, rows: mat4x4f) {
  let c = slice * CHUNK + lane % 8u;
  for (var r = 0u; r < 4u; r++) {
    if (query + r < params.queries && c < params.columns) {
      y[((query + r) * params.heads + head) * params.columns + c] = rows[r];
    }
  }
}
