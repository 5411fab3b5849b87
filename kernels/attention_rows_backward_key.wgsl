// attention, backward to keys and values, over every query i and head h of the key's group:
//   dv[j, g] = Σ_hi p_ij dy[i, h],   dk[j, g] = scale Σ_hi p_ij (dy[i, h] · v[j, g] - delta[h, i]) q[i, h]
// One invocation per (key, key head), queries in tiles of eight, heads one after the other.
//
// q, dy      (queries, heads, D)       k, v, dk, dv  (keys, heads / group, D)
// stats      (heads, queries) pairs (lse, delta)
// grid       (blocks of 8 keys, heads / group, slices of HELD columns)
// parts      common/attention_mask.wgsl, common/rows_plain.wgsl

const HELD = 8u;    // vec4 columns of the result that an invocation owns and sums in registers
const WHOLE = true; // these are all columns: the row itself is held too

struct Params {
  queries: u32, keys: u32, heads: u32, group: u32,
  offset: u32,
  key_tokens: u32, query_ranges: u32,
  scale: f32,
  columns: u32, // head size in vec4
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

fn row_a(i: u32) -> vec4f { return q[i]; }
fn row_b(i: u32) -> vec4f { return dy[i]; }
fn other_token(i: u32) -> vec4i { return table[i]; }
fn other_pair(i: u32) -> vec2f { return stats[i]; }
fn sees(own: vec4i, index: u32, other: vec4i, other_index: u32) -> bool {
  return may_attend(other, other_index + params.offset, own, index);
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let key = group.x * 8u + lane;
  let own_row = min(key, params.keys - 1u);
  let own = table[params.key_tokens + own_row];
  let start = (own_row * (params.heads / params.group) + group.y) * params.columns;
  let stride = params.heads * params.columns;

  let first = group.z * HELD;
  let last = params.columns - 1u;

  var x: array<vec4f, HELD>;
  var z: array<vec4f, HELD>;
  var dx: array<vec4f, HELD>;
  var dz: array<vec4f, HELD>;
  if (WHOLE) {
    for (var c = 0u; c < HELD; c++) {
      x[c] = k[start + c] * params.scale;
      z[c] = v[start + c];
    }
  }
  let range = table[params.query_ranges + group.x];
  for (var h = group.y * params.group; h < (group.y + 1u) * params.group; h++) {
    for (var tile = u32(range.x); tile < u32(range.y); tile += 8u) {
      let rows = rows_from(tile, params.queries - 1u, lane);
      var s = Eight(vec4f(0.0), vec4f(0.0));
      var dp = Eight(vec4f(0.0), vec4f(0.0));
      let column = h * params.columns;
      if (WHOLE) {
        for (var c = 0u; c < HELD; c++) {
          s = add_dots(s, x[c], cells_a(rows, stride, column + c));
          dp = add_dots(dp, z[c], cells_b(rows, stride, column + c));
        }
      } else {
        for (var c = 0u; c < params.columns; c++) {
          s = add_dots(s, k[start + c] * params.scale, cells_a(rows, stride, column + c));
          dp = add_dots(dp, v[start + c], cells_b(rows, stride, column + c));
        }
      }
      s = masked(s, own, own_row, rows, -1e30);
      let stat = pairs(rows, h * params.queries);
      let p = Eight(exp(s.lo - stat.x.lo), exp(s.hi - stat.x.hi));
      let ds = Eight(p.lo * (dp.lo - stat.y.lo), p.hi * (dp.hi - stat.y.hi));
      for (var c = 0u; c < HELD; c++) {
        let at = column + min(first + c, last);
        dx[c] = add_rows(dx[c], ds, cells_a(rows, stride, at));
        dz[c] = add_rows(dz[c], p, cells_b(rows, stride, at));
      }
    }
  }
  if (key < params.keys) {
    for (var c = 0u; c < HELD; c++) {
      if (first + c <= last) {
        dk[start + first + c] = dx[c] * params.scale;
        dv[start + first + c] = dz[c];
      }
    }
  }
}
