// sum_segments: y[rows[u], c] = Σ_k x[order[k], c] over starts[u] ≤ k < starts[u + 1], in ascending k:
// a scatter-add without atomics. Rows of y that no segment names are left alone.
//
// x         (…, cols) counted in packs; y (…, cols), rows [first, first + count) of it
// segments  rows (n), starts (n + 1), order (…) behind one another
// grid      folded: one invocation per segment and pack

override BLOCK: u32 = 64;
alias pack = f32;

struct Params { n: u32, cols: u32, first: u32, count: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> segments: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<pack>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  let u = i / params.cols;
  let c = i % params.cols;
  if (u >= params.n) { return; }
  let row = segments[u] - params.first; // wraps around below first, and then exceeds count
  if (row >= params.count) { return; }
  let order = 2u * params.n + 1u;
  let end = segments[params.n + u + 1u];
  var sum = pack();
  for (var k = segments[params.n + u]; k < end; k++) {
    sum += x[segments[order + k] * params.cols + c];
  }
  y[row * params.cols + c] = sum;
}
