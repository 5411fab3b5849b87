// matmul_few_subgroup: c[m, n] = Σ_k a[m, k] b[n, k] (+ bias[n]) for few rows m, where a subgroup is exactly 8 lanes
// wide. Each lane owns 4 columns, stored rows of b and 8 apart, and reads them from end to end; the lanes share what
// they read of a by broadcasts, so that nearly all loads are of b.
//
// a, c   (rows, inner), (rows, columns); a_stride a multiple of 4
// b      (columns, inner) f32 or packed; b_stride counts 16 bytes
// grid   x over 32 columns, y over ROWS rows
// parts  common/matmul_few.wgsl, one of common/unpack32_….wgsl

override ROWS: u32 = 1; // rows at a time: 1, 2 or 4

struct Params {
  rows: u32, columns: u32, inner: u32, steps: u32, // steps of 32 values of k
  a_stride: u32, b_stride: u32, c_stride: u32,
  c_start: u32, bias_start: u32,
  add_bias: u32, // 1: c = a·b + bias
}

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

fn a4(at: u32) -> vec4f { return a[at]; }
fn b4(at: u32) -> vec4u { return b[at]; }

// The step's 32 values of a row: lane l loads four of them, all lanes get all.
fn lefts(row: u32, step: u32, lane: u32) -> Lefts {
  let own = left(row, 32u * step + 4u * lane);
  let x = ready(own);
  var shift = 0.0;
  if (SHIFT != 0.0) { shift = SHIFT * subgroupAdd(total(own)); }
  return Lefts(
    subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u),
    subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u),
    shift,
  );
}

fn rows_of(row: u32, step: u32, lane: u32) -> Rows {
  var x: Rows;
  x.r0 = lefts(row, step, lane);
  if (ROWS > 1u) { x.r1 = lefts(row + 1u, step, lane); }
  if (ROWS > 2u) {
    x.r2 = lefts(row + 2u, step, lane);
    x.r3 = lefts(row + 3u, step, lane);
  }
  return x;
}

fn store_column(row: u32, column: u32, s: Sums) {
  store(row, column, total(s.r0));
  if (ROWS > 1u) { store(row + 1u, column, total(s.r1)); }
  if (ROWS > 2u) {
    store(row + 2u, column, total(s.r2));
    store(row + 3u, column, total(s.r3));
  }
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * ROWS;
  let column = group.x * 32u + lane;
  let last = params.columns - 1u;
  let start0 = min(column, last) * params.b_stride;
  let start1 = min(column + 8u, last) * params.b_stride;
  let start2 = min(column + 16u, last) * params.b_stride;
  let start3 = min(column + 24u, last) * params.b_stride;
  let scales = scales_at(params.b_stride);
  var s0 = Sums();
  var s1 = Sums();
  var s2 = Sums();
  var s3 = Sums();
  // Both loops end at their bottoms: llvmpipe runs the body of a loop that ends at its top once more, masked.
  var first = 0u;
  loop { // 16 steps share a vec4u of scales
    let at = scales + first / 16u;
    var scales0 = vec4u();
    var scales1 = vec4u();
    var scales2 = vec4u();
    var scales3 = vec4u();
    if (SCALED) {
      scales0 = b4(start0 + at);
      scales1 = b4(start1 + at);
      scales2 = b4(start2 + at);
      scales3 = b4(start3 + at);
    }
    let end = min(first + 16u, params.steps);
    var step = first;
    loop {
      let x = rows_of(row, step, lane);
      s0 = add_column(s0, load32(start0, step), scales0, step, x);
      s1 = add_column(s1, load32(start1, step), scales1, step, x);
      s2 = add_column(s2, load32(start2, step), scales2, step, x);
      s3 = add_column(s3, load32(start3, step), scales3, step, x);
      step++;
      if (step >= end) { break; }
    }
    first = end;
    if (first >= params.steps) { break; }
  }
  store_column(row, column, s0);
  store_column(row, column + 8u, s1);
  store_column(row, column + 16u, s2);
  store_column(row, column + 24u, s3);
}
