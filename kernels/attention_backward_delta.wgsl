// attention, backward, first step: stats[h, i] = (lse[h, i], Σ_d dy[i, h, d] y[i, h, d])
//
// y, dy   (queries, heads, D), D = 4 · columns, seen as vec4
// lse     (heads, queries)      stats (heads, queries) pairs
// grid    folded: one invocation per (query, head)

override BLOCK: u32 = 64;

struct Params { queries: u32, heads: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> y: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.queries * params.heads) { return; }
  var sum = vec4f(0.0);
  for (var c = i * params.columns; c < (i + 1u) * params.columns; c++) { sum += y[c] * dy[c]; }
  let at = i % params.heads * params.queries + i / params.heads;
  stats[at] = vec2f(lse[at], dot(sum, vec4f(1.0)));
}
