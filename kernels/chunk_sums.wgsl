// chunk_sums: y[a, s, c] = Σ_{r in chunk s} x[a, r, c], in order: one stage of a reproducible reduction
//
// x     (outer, rows, quads·4)
// y     (outer, chunks, quads·4)
// grid  folded: one invocation per (a, s, four columns)

override BLOCK: u32 = 64;

struct Params { n: u32, rows: u32, quads: u32, chunks: u32, chunk_rows: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let quad = id % params.quads;
  let s = (id / params.quads) % params.chunks;
  let a = id / (params.quads * params.chunks);
  let end = min(params.rows, (s + 1u) * params.chunk_rows);
  var sum = vec4f();
  for (var r = s * params.chunk_rows; r < end; r++) { sum += x[(a * params.rows + r) * params.quads + quad]; }
  y[id] = sum;
}
