// cache_write: cached_keys[slot_i, g, d] = keys[i, g, d], and values likewise
//
// keys, values                  (N, K, D)
// cached_keys, cached_values    (slots, K, D)
// table                         per token i four numbers, the third of them its slot
// grid                          folded: one invocation per four values of a token

override BLOCK: u32 = 64;

struct Params { n: u32, packs: u32 } // N · packs, and K · D / 4

@group(0) @binding(0) var<storage, read> keys: array<vec4f>;
@group(0) @binding(1) var<storage, read> values: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<i32>;
@group(0) @binding(3) var<storage, read_write> cached_keys: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> cached_values: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let slot = u32(table[4u * (i / params.packs) + 2u]);
  let to = slot * params.packs + i % params.packs;
  cached_keys[to] = keys[i];
  cached_values[to] = values[i];
}
