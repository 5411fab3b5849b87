// matmul_subgroup: c[m, n] = Σ_k a[m, k] b[k, n] (+ bias[n]) where a subgroup is exactly LANES wide. The lanes
// of a subgroup share 4 ROW_BLOCKS rows; each owns 4 columns. A lane loads one 4×4 block of a and
// broadcasts it to the others, so a is read once per 4 LANES columns without shared memory.
//
// a, b, c  (rows, inner), (inner, columns), (rows, columns); a or b may be stored transposed
// grid     x over tiles of 4 LANES columns, y over tiles of 4 ROW_BLOCKS rows, z over splits of k
// parts    common/matmul_block.wgsl, common/matmul_access.wgsl, and common/matmul_b.wgsl or, for packed b,
//          common/matmul_b_packed.wgsl with an unpack_ part; strides multiples of 4, of packed b in 16 bytes

override TRANSPOSE_A: u32 = 0;    // 1: a is stored (inner, rows)
override TRANSPOSE_B: u32 = 0;    // 1: b is stored (columns, inner)
override ADD_TO_C: u32 = 0;       // 1: c += a·b
override ROW_BLOCKS: u32 = 8;     // 4 or 8, no more than LANES
override LANES: u32 = 8;          // of a subgroup, which is a workgroup

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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * 4u * ROW_BLOCKS;
  let column = (group.x * LANES + lane) * 4u;
  let start = first_sums(column, group.z);
  var c0 = start;
  var c1 = start;
  var c2 = start;
  var c3 = start;
  var c4 = start;
  var c5 = start;
  var c6 = start;
  var c7 = start;
  let end = last_k(group.z);
  // Both loops end at their bottoms: llvmpipe runs the body of a loop that ends at its top once more, masked.
  var first = group.z * params.inner_step;
  loop {
    let held = hold(first, column);
    let stop = min(first + PERIOD, end);
    var k = first;
    loop {
      let own = load_a(row + 4u * lane, k);
      let b0 = load_b(held, k, column);
      let a0 = mat4x4f(
        subgroupBroadcast(own[0], 0u),
        subgroupBroadcast(own[1], 0u),
        subgroupBroadcast(own[2], 0u),
        subgroupBroadcast(own[3], 0u),
      );
      c0 = multiply_add(c0, a0, b0);
      let a1 = mat4x4f(
        subgroupBroadcast(own[0], 1u),
        subgroupBroadcast(own[1], 1u),
        subgroupBroadcast(own[2], 1u),
        subgroupBroadcast(own[3], 1u),
      );
      c1 = multiply_add(c1, a1, b0);
      let a2 = mat4x4f(
        subgroupBroadcast(own[0], 2u),
        subgroupBroadcast(own[1], 2u),
        subgroupBroadcast(own[2], 2u),
        subgroupBroadcast(own[3], 2u),
      );
      c2 = multiply_add(c2, a2, b0);
      let a3 = mat4x4f(
        subgroupBroadcast(own[0], 3u),
        subgroupBroadcast(own[1], 3u),
        subgroupBroadcast(own[2], 3u),
        subgroupBroadcast(own[3], 3u),
      );
      c3 = multiply_add(c3, a3, b0);
      if (ROW_BLOCKS > 4u) {
        let a4 = mat4x4f(
          subgroupBroadcast(own[0], 4u),
          subgroupBroadcast(own[1], 4u),
          subgroupBroadcast(own[2], 4u),
          subgroupBroadcast(own[3], 4u),
        );
        c4 = multiply_add(c4, a4, b0);
        let a5 = mat4x4f(
          subgroupBroadcast(own[0], 5u),
          subgroupBroadcast(own[1], 5u),
          subgroupBroadcast(own[2], 5u),
          subgroupBroadcast(own[3], 5u),
        );
        c5 = multiply_add(c5, a5, b0);
        let a6 = mat4x4f(
          subgroupBroadcast(own[0], 6u),
          subgroupBroadcast(own[1], 6u),
          subgroupBroadcast(own[2], 6u),
          subgroupBroadcast(own[3], 6u),
        );
        c6 = multiply_add(c6, a6, b0);
        let a7 = mat4x4f(
          subgroupBroadcast(own[0], 7u),
          subgroupBroadcast(own[1], 7u),
          subgroupBroadcast(own[2], 7u),
          subgroupBroadcast(own[3], 7u),
        );
        c7 = multiply_add(c7, a7, b0);
      }
      k += 4u;
      if (k >= stop) { break; }
    }
    first = stop;
    if (first >= end) { break; }
  }
  let plane = group.z * params.c_plane;
  store_block(row, column, plane, c0);
  store_block(row + 4u, column, plane, c1);
  store_block(row + 8u, column, plane, c2);
  store_block(row + 12u, column, plane, c3);
  if (ROW_BLOCKS > 4u) {
    store_block(row + 16u, column, plane, c4);
    store_block(row + 20u, column, plane, c5);
    store_block(row + 24u, column, plane, c6);
    store_block(row + 28u, column, plane, c7);
  }
}
