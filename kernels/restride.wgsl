// restride: y[r, c] = x[r, c] where x has column c, else 0. Gives rows a stride that the matmul kernels can
// read 16 bytes at a time, or takes it away again.
//
// x     (rows, from_columns) row-major
// y     (rows, to_columns) row-major
// grid  folded: one invocation per value of y

override BLOCK: u32 = 64;

struct Params { n: u32, from_columns: u32, to_columns: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let row = i / params.to_columns;
  let column = i % params.to_columns;
  if (column < params.from_columns) {
    y[i] = x[row * params.from_columns + column];
  } else {
    y[i] = 0.0;
  }
}
