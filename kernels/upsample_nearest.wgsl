// upsample_nearest: y[b, i, j, c] = x[b, ⌊i/2⌋, ⌊j/2⌋, c]
//
// x     (rows = images·height, width, quads·4)
// y     (2·rows, 2·width, quads·4)
// grid  folded: one invocation per four channels of x, written to four pixels

override BLOCK: u32 = 64;

struct Params { n: u32, width: u32, quads: u32 }

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
  let column = (id / params.quads) % params.width;
  let row = id / (params.quads * params.width);
  let stride = 2u * params.width * params.quads;
  let to = 2u * row * stride + 2u * column * params.quads + quad;
  let value = x[id];
  y[to] = value;
  y[to + params.quads] = value;
  y[to + stride] = value;
  y[to + stride + params.quads] = value;
}
