// upsample_taps: y[o, c, p, q] = Σ_{u ∈ S(down, p), v ∈ S(right, q)} weight[o, c, u, v], the taps of a 3 × 3
// convolution that meet one pixel once every pixel was repeated: S(0, ·) = {0}, {1, 2}; S(1, ·) = {0, 1}, {2}
//
// weight  (O, C, 3, 3)
// y       (O, C, 2, 2): the convolution for the output rows of parity `down` and columns of parity `right`
// grid    folded: one invocation per n = O·C, which makes all four taps

override BLOCK: u32 = 64;

struct Params { n: u32, down: u32, right: u32 }

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> params: Params;

// A row of taps on its two neighbours.
fn halves(row: vec3f) -> vec2f {
  return select(vec2f(row.x, row.y + row.z), vec2f(row.x + row.y, row.z), params.right == 1u);
}

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let at = 9u * id;
  let top = halves(vec3f(weight[at], weight[at + 1u], weight[at + 2u]));
  let middle = halves(vec3f(weight[at + 3u], weight[at + 4u], weight[at + 5u]));
  let bottom = halves(vec3f(weight[at + 6u], weight[at + 7u], weight[at + 8u]));
  if (params.down == 1u) {
    y[id] = vec4f(top + middle, bottom);
  } else {
    y[id] = vec4f(top, middle + bottom);
  }
}
