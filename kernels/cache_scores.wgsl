// cache_scores: scores[i, h, j] = scale · q[i, h] · k[slot(i, j), g] for the keys j that query i sees, g = h / GROUP
//
// q         (N, H, D)
// k         (slots, K, D); key j of query i lies in slot pages[j / PAGE] · PAGE + j % PAGE
// table     per query (start of its pages in this table, number of keys it sees, its slot, 0), then pages
// scores    (count, H, stride) for queries first … first + count; stride a multiple of 4
// grid      folded: one invocation per four keys, four heads of one group and query

override BLOCK: u32 = 64;
override PAGE: u32 = 32;

struct Params {
  first: u32, count: u32, heads: u32, key_heads: u32, columns: u32, // columns = D / 4
  stride: u32, scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<i32>;
@group(0) @binding(3) var<storage, read_write> scores: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  let keys = params.stride / 4u;
  let shared_heads = params.heads / params.key_heads;
  let blocks = (shared_heads + 3u) / 4u;
  let key = 4u * (i % keys);
  let block = i / keys % blocks;
  let g = i / (keys * blocks) % params.key_heads;
  let row = i / (keys * blocks * params.key_heads);
  if (row >= params.count) { return; }
  let query = params.first + row;
  let start = u32(table[4u * query]);
  let seen = u32(table[4u * query + 1u]);
  if (key >= seen) { return; }
  let slot = u32(table[start + key / PAGE]) * PAGE + key % PAGE;
  let step = params.key_heads * params.columns; // from one slot to the next
  let k_at = slot * step + g * params.columns;
  let last = g * shared_heads + shared_heads - 1u;
  let head = g * shared_heads + 4u * block;
  let q_row = query * params.heads;
  let q0 = (q_row + head) * params.columns;
  let q1 = (q_row + min(head + 1u, last)) * params.columns;
  let q2 = (q_row + min(head + 2u, last)) * params.columns;
  let q3 = (q_row + min(head + 3u, last)) * params.columns;
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  for (var c = 0u; c < params.columns; c++) {
    let at = k_at + c;
    let four = mat4x4f(k[at], k[at + step], k[at + 2u * step], k[at + 3u * step]);
    s0 += q[q0 + c] * four;
    s1 += q[q1 + c] * four;
    s2 += q[q2 + c] * four;
    s3 += q[q3 + c] * four;
  }
  let to = (row * params.heads + head) * keys + key / 4u;
  scores[to] = params.scale * s0;
  if (head + 1u <= last) { scores[to + keys] = params.scale * s1; }
  if (head + 2u <= last) { scores[to + 2u * keys] = params.scale * s2; }
  if (head + 3u <= last) { scores[to + 3u * keys] = params.scale * s3; }
}
