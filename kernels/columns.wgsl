// columns: y[r, j] = x[r, start + j] where that column exists, else 0: crops, pads and slices
//
// x     (rows, from_columns)
// y     (rows, columns)
// grid  folded: one invocation per value of y

override BLOCK: u32 = 64;

struct Params { n: u32, columns: u32, from_columns: u32, start: i32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let j = i32(id % params.columns) + params.start;
  let row = id / params.columns;
  var value = 0.0;
  if (j >= 0 && j < i32(params.from_columns)) { value = x[row * params.from_columns + u32(j)]; }
  y[id] = value;
}
