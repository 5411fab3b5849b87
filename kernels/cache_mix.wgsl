// cache_mix: y[i, h] = Σ_j p[i, h, j] v[slot(i, j), g] over the keys j of one split of those query i sees
//
// p         (count, H, stride), zeros behind the keys that are seen
// v         (slots, K, D); slots as in cache_scores
// y         (splits, count, H, D); split z sums keys [z · step, (z + 1) · step)
// grid      folded: one invocation per four columns, four heads of one group and query, and split

override BLOCK: u32 = 64;
override PAGE: u32 = 32;

struct Params {
  first: u32, count: u32, heads: u32, key_heads: u32, columns: u32, // columns = D / 4
  stride: u32, splits: u32, step: u32, // step a multiple of 4
}

@group(0) @binding(0) var<storage, read> p: array<vec4f>;
@group(0) @binding(1) var<storage, read> v: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  let shared_heads = params.heads / params.key_heads;
  let blocks = (shared_heads + 3u) / 4u;
  let column = i % params.columns;
  let block = i / params.columns % blocks;
  let g = i / (params.columns * blocks) % params.key_heads;
  let rest = i / (params.columns * blocks * params.key_heads);
  let row = rest % params.count;
  let split = rest / params.count;
  if (split >= params.splits) { return; }
  let query = params.first + row;
  let start = u32(table[4u * query]);
  let seen = min(u32(table[4u * query + 1u]), (split + 1u) * params.step);
  let step = params.key_heads * params.columns;
  let keys = params.stride / 4u;
  let last = g * shared_heads + shared_heads - 1u;
  let head = g * shared_heads + 4u * block;
  let p_row = row * params.heads;
  let p0 = (p_row + head) * keys;
  let p1 = (p_row + min(head + 1u, last)) * keys;
  let p2 = (p_row + min(head + 2u, last)) * keys;
  let p3 = (p_row + min(head + 3u, last)) * keys;
  var y0 = vec4f();
  var y1 = vec4f();
  var y2 = vec4f();
  var y3 = vec4f();
  for (var key = split * params.step; key < seen; key += 4u) {
    let slot = u32(table[start + key / PAGE]) * PAGE + key % PAGE;
    let at = slot * step + g * params.columns + column;
    let v0 = v[at];
    // Slots behind the last key may never have been written; 0 · NaN is not 0.
    let v1 = select(vec4f(), v[at + step], key + 1u < seen);
    let v2 = select(vec4f(), v[at + 2u * step], key + 2u < seen);
    let v3 = select(vec4f(), v[at + 3u * step], key + 3u < seen);
    let four = mat4x4f(v0, v1, v2, v3);
    let c = key / 4u;
    y0 += four * p[p0 + c];
    y1 += four * p[p1 + c];
    y2 += four * p[p2 + c];
    y3 += four * p[p3 + c];
  }
  let to = ((split * params.count + row) * params.heads + head) * params.columns + column;
  y[to] = y0;
  if (head + 1u <= last) { y[to + params.columns] = y1; }
  if (head + 2u <= last) { y[to + 2u * params.columns] = y2; }
  if (head + 3u <= last) { y[to + 3u * params.columns] = y3; }
}
