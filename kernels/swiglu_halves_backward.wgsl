// swiglu_halves_backward: with s = 1 / (1 + exp(-gate)) and rows x[r] = [gate | up],
//   dx[r] = [(s + gate · s · (1 - s)) · up · dy[r] | gate · s · dy[r]]
//
// x, dx   (rows, 2 · cols); dy (rows, cols); cols counted in packs
// grid    folded: LANES threads per row

override BLOCK: u32 = 64;
override LANES: u32 = 1;
alias pack = f32;

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> dy: array<pack>;
@group(0) @binding(2) var<storage, read_write> dx: array<pack>;
@group(0) @binding(3) var<uniform> params: Params;

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
    let d = dy[row * params.cols + c];
    dx[start + params.cols + c] = g * s * d;
    dx[start + c] = (s + g * s * (pack(1.0) - s)) * x[start + params.cols + c] * d;
  }
}
