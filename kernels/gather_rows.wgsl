// gather_rows: y[i, c] = x[indices[i], c], and 0 where the index is negative
//
// x        (rows, cols), of which this launch sees rows [first, first + count); cols counted in packs
// indices  (n / cols); y (n / cols, cols)
// grid     folded: one invocation per pack of y

override BLOCK: u32 = 64;
alias pack = f32;

struct Params { n: u32, cols: u32, first: u32, count: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<pack>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let index = indices[i / params.cols];
  let row = u32(index) - params.first; // wraps around below first, and then exceeds count
  if (index < 0) {
    y[i] = pack();
  } else if (row < params.count) {
    y[i] = x[row * params.cols + i % params.cols];
  }
}
