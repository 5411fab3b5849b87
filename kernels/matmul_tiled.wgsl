// matmul_tiled: c[m, n] = Σ_k a[m, k] b[k, n] (+ bias[n]) for adapters whose workgroup memory is fast. A workgroup
// brings a slab of a and one of b, 16 values of k deep, into its memory; each invocation then multiplies
// 4 ROW_BLOCKS rows by 4 COLUMN_BLOCKS columns out of it, every value read there used 4 to 8 times from registers.
//
// a, b, c  (rows, inner), (inner, columns), (rows, columns); a or b may be stored transposed
// grid     x over tiles of 4 COLUMN_BLOCKS SIDE columns, y over tiles of 4 ROW_BLOCKS SIDE rows, z over splits of k;
//          SIDE × SIDE invocations
// memory   64 SIDE (ROW_BLOCKS + COLUMN_BLOCKS) values and 4 + 16 vec4s, which keep columns of it in distinct banks
// parts    common/matmul_block.wgsl, common/matmul_access.wgsl, and common/matmul_b.wgsl or, for packed b,
//          common/matmul_b_packed.wgsl with an unpack_ part; strides multiples of 4, of packed b in 16 bytes

override TRANSPOSE_A: u32 = 0;    // 1: a is stored (inner, rows)
override TRANSPOSE_B: u32 = 0;    // 1: b is stored (columns, inner)
override ADD_TO_C: u32 = 0;       // 1: c += a·b
override ROW_BLOCKS: u32 = 1;     // 1 or 2
override COLUMN_BLOCKS: u32 = 1;  // 1 or 2
override SIDE: u32 = 16;          // 8 or 16

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

const DEPTH = 4u; // values of k in a slab, in fours; main has a line for each

var<workgroup> slab_a: array<vec4f, 4 * (4 * SIDE * ROW_BLOCKS + 1)>; // [k / 4][row]: four values along k
var<workgroup> slab_b: array<vec4f, 16 * (SIDE * COLUMN_BLOCKS + 1)>; // [k][column / 4]: four columns

fn a4(at: u32) -> vec4f { return a[at]; }
fn b4(at: u32) -> vec4u { return b[at]; }

// Block `block` of a slab of `quads` blocks by DEPTH, as (quad, depth): what lies side by side in the operand goes to
// invocations side by side.
fn place(block: u32, quads: u32, along_k: bool) -> vec2u {
  return select(
    vec2u(block % quads, block / quads),
    vec2u(block / DEPTH, block % DEPTH),
    along_k,
  );
}

// Blocks of a slab in all: those of a first, then those of b. An invocation brings at most two of them.
fn blocks_of_a() -> u32 { return SIDE * ROW_BLOCKS * DEPTH; }
fn blocks() -> u32 { return SIDE * (ROW_BLOCKS + COLUMN_BLOCKS) * DEPTH; }

// One 4×4 block of the slab from `k` on, zero beyond `end`.
fn fetch(block: u32, row: u32, column: u32, k: u32, end: u32) -> mat4x4f {
  if (block < blocks_of_a()) {
    let at = place(block, SIDE * ROW_BLOCKS, TRANSPOSE_A == 0u);
    let source = k + 4u * at.y;
    if (source >= end) { return mat4x4f(); }
    return load_a(row + 4u * at.x, source);
  }
  let at = place(block - blocks_of_a(), SIDE * COLUMN_BLOCKS, TRANSPOSE_B == 1u);
  let source = k + 4u * at.y;
  if (source >= end || block >= blocks()) { return mat4x4f(); }
  let first = column + 4u * at.x;
  return load_b(hold(source / PERIOD * PERIOD, first), source, first);
}

fn put(block: u32, values: mat4x4f) {
  if (block < blocks_of_a()) {
    let quads = SIDE * ROW_BLOCKS;
    let at = place(block, quads, TRANSPOSE_A == 0u);
    let to = at.y * (4u * quads + 1u) + 4u * at.x;
    slab_a[to] = values[0];
    slab_a[to + 1u] = values[1];
    slab_a[to + 2u] = values[2];
    slab_a[to + 3u] = values[3];
    return;
  }
  if (block >= blocks()) { return; }
  let step = SIDE * COLUMN_BLOCKS + 1u;
  let at = place(block - blocks_of_a(), SIDE * COLUMN_BLOCKS, TRANSPOSE_B == 1u);
  let to = 4u * at.y * step + at.x;
  slab_b[to] = values[0];
  slab_b[to + step] = values[1];
  slab_b[to + 2u * step] = values[2];
  slab_b[to + 3u * step] = values[3];
}

fn held_a(row: u32, depth: u32) -> mat4x4f {
  let at = depth * (4u * SIDE * ROW_BLOCKS + 1u) + row;
  return mat4x4f(slab_a[at], slab_a[at + 1u], slab_a[at + 2u], slab_a[at + 3u]);
}

fn held_b(quad: u32, depth: u32) -> mat4x4f {
  let step = SIDE * COLUMN_BLOCKS + 1u;
  let at = 4u * depth * step + quad;
  return mat4x4f(slab_b[at], slab_b[at + step], slab_b[at + 2u * step], slab_b[at + 3u * step]);
}

// What an invocation sums: blocks of its first and second rows by its first and second columns.
struct Sums { c00: mat4x4f, c01: mat4x4f, c10: mat4x4f, c11: mat4x4f }

// Adds four values of k. Written out per depth: wgpu guards loops against running for ever, and compilers
// do not unroll them then.
fn add_depth(sums: Sums, own: vec3u, depth: u32) -> Sums {
  var next = sums;
  let a0 = held_a(4u * own.y, depth);
  let b0 = held_b(own.x, depth);
  next.c00 = multiply_add(sums.c00, a0, b0);
  if (COLUMN_BLOCKS > 1u) {
    let b1 = held_b(own.x + SIDE, depth);
    next.c01 = multiply_add(sums.c01, a0, b1);
    if (ROW_BLOCKS > 1u) {
      let a1 = held_a(4u * (own.y + SIDE), depth);
      next.c10 = multiply_add(sums.c10, a1, b0);
      next.c11 = multiply_add(sums.c11, a1, b1);
    }
  } else if (ROW_BLOCKS > 1u) {
    next.c10 = multiply_add(sums.c10, held_a(4u * (own.y + SIDE), depth), b0);
  }
  return next;
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_id) own: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let first_row = group.y * 4u * SIDE * ROW_BLOCKS;
  let first_column = group.x * 4u * SIDE * COLUMN_BLOCKS;
  let row = first_row + 4u * own.y; // and 4 SIDE further
  let column = first_column + 4u * own.x; // likewise: neighbours read and write neighbouring columns
  let left = first_sums(column, group.z);
  var right = mat4x4f();
  if (COLUMN_BLOCKS > 1u) { right = first_sums(column + 4u * SIDE, group.z); }
  var sums = Sums(left, right, left, right);
  let end = last_k(group.z);
  let two = blocks() > SIDE * SIDE;
  let start = group.z * params.inner_step;
  var next0 = fetch(lane, first_row, first_column, start, end);
  var next1 = mat4x4f();
  if (two) { next1 = fetch(lane + SIDE * SIDE, first_row, first_column, start, end); }
  for (var k = start; k < end; k += 4u * DEPTH) {
    workgroupBarrier();
    put(lane, next0);
    if (two) { put(lane + SIDE * SIDE, next1); }
    workgroupBarrier();
    // The next slab is on its way while this one is multiplied.
    next0 = fetch(lane, first_row, first_column, k + 4u * DEPTH, end);
    if (two) { next1 = fetch(lane + SIDE * SIDE, first_row, first_column, k + 4u * DEPTH, end); }
    sums = add_depth(sums, own, 0u);
    sums = add_depth(sums, own, 1u);
    sums = add_depth(sums, own, 2u);
    sums = add_depth(sums, own, 3u);
  }
  let plane = group.z * params.c_plane;
  store_block(row, column, plane, sums.c00);
  if (COLUMN_BLOCKS > 1u) { store_block(row, column + 4u * SIDE, plane, sums.c01); }
  if (ROW_BLOCKS > 1u) {
    store_block(row + 4u * SIDE, column, plane, sums.c10);
    if (COLUMN_BLOCKS > 1u) { store_block(row + 4u * SIDE, column + 4u * SIDE, plane, sums.c11); }
  }
}
