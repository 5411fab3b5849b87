// matmul_few: c[m, n] = Σ_k a[m, k] b[n, k] (+ bias[n]) for few rows m, the portable kernel. A workgroup owns 4
// columns, stored rows of b; neighbouring invocations read neighbouring 16 bytes of each, and add up in shared
// memory at the end.
//
// a, c   (rows, inner), (rows, columns); a_stride a multiple of 4
// b      (columns, inner) f32 or packed; b_stride counts 16 bytes
// grid   x over 4 columns, y over ROWS rows
// parts  common/matmul_few.wgsl, one of common/unpack32_….wgsl

override ROWS: u32 = 1;   // rows at a time: 1, 2 or 4
override BLOCK: u32 = 32; // invocations that share a column, a power of two

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

var<workgroup> partial: array<vec4f, BLOCK>; // one row of sums of the 4 columns at a time

fn lefts(row: u32, step: u32) -> Lefts {
  let k = 32u * step;
  let x0 = left(row, k);
  let x1 = left(row, k + 4u);
  let x2 = left(row, k + 8u);
  let x3 = left(row, k + 12u);
  let x4 = left(row, k + 16u);
  let x5 = left(row, k + 20u);
  let x6 = left(row, k + 24u);
  let x7 = left(row, k + 28u);
  let shift = SHIFT * total(((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7)));
  return Lefts(
    ready(x0), ready(x1), ready(x2), ready(x3), ready(x4), ready(x5), ready(x6), ready(x7), shift,
  );
}

fn rows_of(row: u32, step: u32) -> Rows {
  var x: Rows;
  x.r0 = lefts(row, step);
  if (ROWS > 1u) { x.r1 = lefts(row + 1u, step); }
  if (ROWS > 2u) {
    x.r2 = lefts(row + 2u, step);
    x.r3 = lefts(row + 3u, step);
  }
  return x;
}

// The scales among which scale_of finds that of the step.
fn scales_for(start: u32, scales: u32, step: u32) -> vec4u {
  if (!SCALED) { return vec4u(); }
  return b4(start + scales + step / 16u);
}

fn store_row(row: u32, column: u32, lane: u32, sums: vec4f) {
  partial[lane] = sums;
  for (var reach = BLOCK / 2u; reach > 0u; reach /= 2u) {
    workgroupBarrier();
    if (lane < reach) { partial[lane] += partial[lane + reach]; }
  }
  workgroupBarrier();
  if (lane < 4u) { store(row, column + lane, partial[0][lane]); }
  workgroupBarrier();
}

@compute @workgroup_size(BLOCK)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * ROWS;
  let column = group.x * 4u;
  let last = params.columns - 1u;
  let start0 = min(column, last) * params.b_stride;
  let start1 = min(column + 1u, last) * params.b_stride;
  let start2 = min(column + 2u, last) * params.b_stride;
  let start3 = min(column + 3u, last) * params.b_stride;
  let scales = scales_at(params.b_stride);
  var s0 = Sums();
  var s1 = Sums();
  var s2 = Sums();
  var s3 = Sums();
  for (var step = lane; step < params.steps; step += BLOCK) {
    let x = rows_of(row, step);
    s0 = add_column(s0, load32(start0, step), scales_for(start0, scales, step), step, x);
    s1 = add_column(s1, load32(start1, step), scales_for(start1, scales, step), step, x);
    s2 = add_column(s2, load32(start2, step), scales_for(start2, scales, step), step, x);
    s3 = add_column(s3, load32(start3, step), scales_for(start3, scales, step), step, x);
  }
  store_row(row, column, lane, vec4f(total(s0.r0), total(s1.r0), total(s2.r0), total(s3.r0)));
  if (ROWS > 1u) {
    store_row(row + 1u, column, lane, vec4f(total(s0.r1), total(s1.r1), total(s2.r1), total(s3.r1)));
  }
  if (ROWS > 2u) {
    store_row(row + 2u, column, lane, vec4f(total(s0.r2), total(s1.r2), total(s2.r2), total(s3.r2)));
    store_row(row + 3u, column, lane, vec4f(total(s0.r3), total(s1.r3), total(s2.r3), total(s3.r3)));
  }
}
