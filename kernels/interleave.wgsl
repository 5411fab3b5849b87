// interleave: y[2i + a, 2j + b] = x_ab[i, j]: four images, one for each parity of row and column, as one
//
// x_ab  (rows, width, quads·4)
// y     (2·rows, 2·width, quads·4)
// grid  folded: one invocation per four channels of one x_ab, written to four pixels

override BLOCK: u32 = 64;

struct Params { n: u32, width: u32, quads: u32 }

@group(0) @binding(0) var<storage, read> x_00: array<vec4f>;
@group(0) @binding(1) var<storage, read> x_01: array<vec4f>;
@group(0) @binding(2) var<storage, read> x_10: array<vec4f>;
@group(0) @binding(3) var<storage, read> x_11: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

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
  y[to] = x_00[id];
  y[to + params.quads] = x_01[id];
  y[to + stride] = x_10[id];
  y[to + stride + params.quads] = x_11[id];
}
