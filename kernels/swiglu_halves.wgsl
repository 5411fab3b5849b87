// swiglu_halves: y[r, c] = silu(gate) · up of rows x[r] = [gate | up],  silu(g) = g / (1 + exp(-g))
//
// x       (rows, 2 · cols); y (rows, cols); cols counted in packs
// grid    folded: LANES threads per row
// source  Shazeer 2020, eq. 6; the exponent is bounded as in common/sigmoid.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read_write> y: array<pack>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  if (row >= params.rows) { return; }
  let start = row * 2u * params.cols;
  for (var c = lane % LANES; c < params.cols; c += LANES) {
    let g = x[start + c];
    let s = pack(1.0) / (pack(1.0) + exp(min(-g, pack(87.0))));
    y[row * params.cols + c] = g * s * x[start + params.cols + c];
  }
}
