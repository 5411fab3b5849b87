// upsample_nearest_backward: dx[b, i, j, c] = sum of dy over the 2 × 2 pixels that x[b, i, j] became
//
// dy    (2·rows, 2·width, quads·4)
// dx    (rows = images·height, width, quads·4)
// grid  folded: one invocation per four channels of dx

override BLOCK: u32 = 64;

struct Params { n: u32, width: u32, quads: u32 }

@group(0) @binding(0) var<storage, read> dy: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> dx: array<vec4f>;
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
  let at = 2u * row * stride + 2u * column * params.quads + quad;
  dx[id] = (dy[at] + dy[at + params.quads]) + (dy[at + stride] + dy[at + stride + params.quads]);
}
