// upsample_taps: y[o, c, p, q] = Σ_{u ∈ S(down, p), v ∈ S(right, q)} weight[o, c, u, v], the taps of a 3 × 3
// convolution that meet one pixel once every pixel was repeated: S(0, ·) = {0}, {1, 2}; S(1, ·) = {0, 1}, {2}
//
// weight  (O, C, 3, 3)
// y       (O, C, 2, 2): the convolution for the output rows of parity `down` and columns of parity `right`
// grid    folded: one invocation per value of y

override BLOCK: u32 = 64;

struct Params { n: u32, down: u32, right: u32 }

@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

// First tap that falls on neighbour `p`, and the one after the last.
fn span(parity: u32, p: u32) -> vec2u {
  return select(vec2u(0u, 1u + parity), vec2u(1u + parity, 3u), p == 1u);
}

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let rows = span(params.down, (id / 2u) % 2u);
  let columns = span(params.right, id % 2u);
  var sum = 0.0;
  for (var u = rows.x; u < rows.y; u++) {
    for (var v = columns.x; v < columns.y; v++) { sum += weight[id / 4u * 9u + 3u * u + v]; }
  }
  y[id] = sum;
}
