// matmul: c[m, n] = Σ_k a[m, k] b[k, n] (+ bias[n]), the portable kernel. Each invocation keeps a tile of
// 4 ROW_BLOCKS × 4 COLUMN_BLOCKS sums in registers and reads its operands in 4×4 blocks.
//
// a, b, c  (rows, inner), (inner, columns), (rows, columns); a or b may be stored transposed
// grid     x over columns, y over rows, z over splits of k; one workgroup per GROUP_X × GROUP_Y tiles
// parts    common/matmul_block.wgsl, common/matmul_access.wgsl, and common/matmul_b.wgsl or, for packed b,
//          common/matmul_b_packed.wgsl with an unpack_ part; strides multiples of 4, of packed b in 16 bytes

override TRANSPOSE_A: u32 = 0;    // 1: a is stored (inner, rows)
override TRANSPOSE_B: u32 = 0;    // 1: b is stored (columns, inner)
override ADD_TO_C: u32 = 0;       // 1: c += a·b
override ROW_BLOCKS: u32 = 2;     // 1 or 2
override COLUMN_BLOCKS: u32 = 2;  // 1 or 2
override GROUP_X: u32 = 8;
override GROUP_Y: u32 = 8;

struct Params {
  rows: u32, columns: u32, inner: u32,
  a_stride: u32, b_stride: u32, c_stride: u32, // values from one stored row to the next
  a_start: u32, b_start: u32, c_start: u32, bias_start: u32, // first value used
  add_bias: u32, // 1: c = a·b + bias
  inner_step: u32, c_plane: u32, // split z sums inner_step values of k and stores c_plane values further
}

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

fn a4(at: u32) -> vec4f { return a[at]; }
fn b4(at: u32) -> vec4u { return b[at]; }

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.y * 4u * ROW_BLOCKS;
  let column = id.x * 4u * COLUMN_BLOCKS;
  if (row >= params.rows || column >= params.columns) { return; }
  let left = first_sums(column, id.z);
  var right = mat4x4f();
  if (COLUMN_BLOCKS > 1u) { right = first_sums(column + 4u, id.z); }
  var c00 = left;
  var c01 = right;
  var c10 = left;
  var c11 = right;
  let end = last_k(id.z);
  for (var first = id.z * params.inner_step; first < end; first += PERIOD) {
    let held0 = hold(first, column);
    let held1 = hold(first, column + 4u);
    for (var k = first; k < min(first + PERIOD, end); k += 4u) {
      let a0 = load_a(row, k);
      let b0 = load_b(held0, k, column);
      c00 = multiply_add(c00, a0, b0);
      if (COLUMN_BLOCKS > 1u) {
        let b1 = load_b(held1, k, column + 4u);
        c01 = multiply_add(c01, a0, b1);
        if (ROW_BLOCKS > 1u) {
          let a1 = load_a(row + 4u, k);
          c10 = multiply_add(c10, a1, b0);
          c11 = multiply_add(c11, a1, b1);
        }
      } else if (ROW_BLOCKS > 1u) {
        c10 = multiply_add(c10, load_a(row + 4u, k), b0);
      }
    }
  }
  let plane = id.z * params.c_plane;
  store_block(row, column, plane, c00);
  if (COLUMN_BLOCKS > 1u) { store_block(row, column + 4u, plane, c01); }
  if (ROW_BLOCKS > 1u) {
    store_block(row + 4u, column, plane, c10);
    if (COLUMN_BLOCKS > 1u) { store_block(row + 4u, column + 4u, plane, c11); }
  }
}
