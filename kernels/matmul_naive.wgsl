// matmul_naive: c[m, n] = Σ_k a[m, k] b[k, n] (+ bias[n]), one output per invocation, in ascending k. The oracle
// of the other matmul kernels.
//
// a, b, c  (rows, inner), (inner, columns), (rows, columns); a or b may be stored transposed
// grid     x over columns, y over rows, in workgroups of 8 × 8

override TRANSPOSE_A: u32 = 0;    // 1: a is stored (inner, rows)
override TRANSPOSE_B: u32 = 0;    // 1: b is stored (columns, inner)
override ADD_TO_C: u32 = 0;       // 1: c += a·b

struct Params {
  rows: u32, columns: u32, inner: u32,
  a_stride: u32, b_stride: u32, c_stride: u32, // values from one stored row to the next
  a_start: u32, b_start: u32, c_start: u32, bias_start: u32, // first value used
  add_bias: u32, // 1: c = a·b + bias
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.y;
  let column = id.x;
  if (row >= params.rows || column >= params.columns) { return; }
  var sum = 0.0;
  for (var k = 0u; k < params.inner; k++) {
    let i = select(row * params.a_stride + k, k * params.a_stride + row, TRANSPOSE_A == 1u);
    let j = select(k * params.b_stride + column, column * params.b_stride + k, TRANSPOSE_B == 1u);
    sum += a[params.a_start + i] * b[params.b_start + j];
  }
  let at = row * params.c_stride + params.c_start + column;
  if (params.add_bias == 1u) { sum += bias[params.bias_start + column]; }
  if (ADD_TO_C == 1u) { sum += c[at]; }
  c[at] = sum;
}
