// attention, backward to the queries: dq[i, h] = scale Σ_j p_ij (dy[i, h] · v[j, g] - delta[h, i]) k[j, g]
// with p_ij = exp(scale q[i, h] · k[j, g] - lse[h, i]) computed again. One invocation per (query, head).
//
// q, dy, dq  (queries, heads, D)       k, v  (keys, heads / group, D)
// stats      (heads, queries) pairs (lse, delta)
// grid       (blocks of 8 queries, heads, slices of HELD columns)
// parts      common/attention_mask.wgsl, common/rows_plain.wgsl

const HELD = 8u;    // vec4 columns of the result that an invocation owns and sums in registers
const WHOLE = true; // these are all columns: the row itself is held too

struct Params {
  queries: u32, keys: u32, heads: u32, group: u32,
  offset: u32,
  key_tokens: u32, key_ranges: u32,
  scale: f32,
  columns: u32, // head size in vec4
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> table: array<vec4i>;
@group(0) @binding(4) var<storage, read> dy: array<vec4f>;
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(7) var<uniform> params: Params;

fn row_a(i: u32) -> vec4f { return k[i]; }
fn row_b(i: u32) -> vec4f { return v[i]; }
fn other_token(i: u32) -> vec4i { return table[params.key_tokens + i]; }
fn other_pair(i: u32) -> vec2f { return vec2f(0.0); }
fn sees(own: vec4i, index: u32, other: vec4i, other_index: u32) -> bool {
  return may_attend(own, index, other, other_index);
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.y;
  let query = group.x * 8u + lane;
  let own_row = min(query, params.queries - 1u);
  let own = table[own_row];
  let index = own_row + params.offset;
  let start = (own_row * params.heads + head) * params.columns;
  let kv_stride = params.heads / params.group * params.columns;
  let kv = head / params.group * params.columns;
  let stat = stats[head * params.queries + own_row];

  let first = group.z * HELD;
  let last = params.columns - 1u;

  var x: array<vec4f, HELD>;
  var z: array<vec4f, HELD>;
  var sum: array<vec4f, HELD>;
  if (WHOLE) {
    for (var c = 0u; c < HELD; c++) {
      x[c] = q[start + c] * params.scale;
      z[c] = dy[start + c];
    }
  }
  let range = table[params.key_ranges + group.x];
  for (var tile = u32(range.x); tile < u32(range.y); tile += 8u) {
    let rows = rows_from(tile, params.keys - 1u, lane);
    var s = Eight(vec4f(0.0), vec4f(0.0));
    var dp = Eight(vec4f(-stat.y), vec4f(-stat.y));
    if (WHOLE) {
      for (var c = 0u; c < HELD; c++) {
        s = add_dots(s, x[c], cells_a(rows, kv_stride, kv + c));
        dp = add_dots(dp, z[c], cells_b(rows, kv_stride, kv + c));
      }
    } else {
      for (var c = 0u; c < params.columns; c++) {
        s = add_dots(s, q[start + c] * params.scale, cells_a(rows, kv_stride, kv + c));
        dp = add_dots(dp, dy[start + c], cells_b(rows, kv_stride, kv + c));
      }
    }
    s = masked(s, own, index, rows, -1e30);
    let ds = Eight(exp(s.lo - stat.x) * dp.lo, exp(s.hi - stat.x) * dp.hi);
    for (var c = 0u; c < HELD; c++) {
      sum[c] = add_rows(sum[c], ds, cells_a(rows, kv_stride, kv + min(first + c, last)));
    }
  }
  if (query < params.queries) {
    for (var c = 0u; c < HELD; c++) {
      if (first + c <= last) { dq[start + first + c] = sum[c] * params.scale; }
    }
  }
}
