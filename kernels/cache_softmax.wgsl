// cache_softmax: in place, p[r, j] = exp(s[r, j] - m_r) / Σ_j exp(s[r, j] - m_r) over the keys j that row r's query
// sees; 0 for the keys beyond them, up to a multiple of 4
//
// scores    (count, H, stride), stride counted in packs of 4
// table     per query (…, number of keys it sees, …)
// grid      folded: LANES threads per row
// parts     common/row_reduce.wgsl, common/pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;

struct Params { first: u32, rows: u32, heads: u32, stride: u32 }

@group(0) @binding(0) var<storage, read> table: array<i32>;
@group(0) @binding(1) var<storage, read_write> scores: array<vec4f>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let known = min(row, params.rows - 1u);
  let start = known * params.stride;
  let seen = u32(table[4u * (params.first + known / params.heads) + 1u]);
  let packs = (seen + 3u) / 4u;
  let tail = vec4u(0u, 1u, 2u, 3u);
  var largest = vec4f(-3.4e38);
  for (var c = lane % LANES; c < packs; c += LANES) {
    let s = scores[start + c];
    largest = max(largest, select(vec4f(-3.4e38), s, 4u * c + tail < vec4u(seen)));
  }
  let m = row_max(lane, pack_max(largest));
  var total = vec4f();
  for (var c = lane % LANES; c < packs; c += LANES) {
    total += select(vec4f(), exp(scores[start + c] - m), 4u * c + tail < vec4u(seen));
  }
  let share = 1.0 / row_sum(lane, pack_sum(total));
  if (row >= params.rows) { return; }
  for (var c = lane % LANES; c < packs; c += LANES) {
    let p = exp(scores[start + c] - m) * share;
    scores[start + c] = select(vec4f(), p, 4u * c + tail < vec4u(seen));
  }
}
