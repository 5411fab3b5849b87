// swap_axes: y[b, j, i] = x[b, i, j]: channels first ↔ channels last
//
// x     (batch, rows, columns)
// y     (batch, columns, rows)
// grid  folded: one invocation per 4 rows × 4 columns, so that each value read in a row is used at once

override BLOCK: u32 = 64;

struct Params { batch: u32, rows: u32, columns: u32 }

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
  let across = (params.columns + 3u) / 4u;
  let down = (params.rows + 3u) / 4u;
  let b = id / (across * down);
  if (b >= params.batch) { return; }
  let i0 = 4u * ((id / across) % down);
  let j0 = 4u * (id % across);
  let start = b * params.rows * params.columns;
  for (var i = i0; i < min(i0 + 4u, params.rows); i++) {
    for (var j = j0; j < min(j0 + 4u, params.columns); j++) {
      y[start + j * params.rows + i] = x[start + i * params.columns + j];
    }
  }
}
