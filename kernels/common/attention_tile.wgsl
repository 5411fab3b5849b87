// Products between the 32 rows a workgroup owns ("near") and a tile of 32 others ("far"), by 64 threads as
// 8 × 8. Thread lane = 8 y + x holds 4 × 4 pairs as a matrix m: m[j][r] pairs near row 4 y + r with far row
// x + 8 j. Rows pass through workgroup memory in chunks of 8 vec4 columns; a pitch of 9 keeps the threads of
// a row on different banks. The kernel defines near_cell and far_cell: vec4 column c of a row of its first
// (0) or second (1) kind, finite beyond the last row, zero beyond the last column.

const TILE = 32u;
const CHUNK = 8u;
const PITCH = 9u;
const THREADS = 64u;

var<workgroup> near: array<vec4f, 288>;
var<workgroup> far: array<vec4f, 288>;
var<workgroup> weights: array<vec4f, 288>; // [far row][y] of 4 near rows

// Short loops are written out: wgpu guards loops against running for ever, a matrix indexed by their variable lies in
// memory, and loads are to be on their way together before the stores that wait for them.

fn load_far(kind: u32, chunk: u32, lane: u32) {
  let row = lane / CHUNK;
  let c = lane % CHUNK;
  let cell0 = far_cell(kind, row, chunk * CHUNK + c);
  let cell1 = far_cell(kind, row + 8u, chunk * CHUNK + c);
  let cell2 = far_cell(kind, row + 16u, chunk * CHUNK + c);
  let cell3 = far_cell(kind, row + 24u, chunk * CHUNK + c);
  let to = row * PITCH + c;
  far[to] = cell0;
  far[to + 8u * PITCH] = cell1;
  far[to + 16u * PITCH] = cell2;
  far[to + 24u * PITCH] = cell3;
}

fn load_near(kind: u32, chunk: u32, lane: u32) {
  let row = lane / CHUNK;
  let c = lane % CHUNK;
  let cell0 = near_cell(kind, row, chunk * CHUNK + c);
  let cell1 = near_cell(kind, row + 8u, chunk * CHUNK + c);
  let cell2 = near_cell(kind, row + 16u, chunk * CHUNK + c);
  let cell3 = near_cell(kind, row + 24u, chunk * CHUNK + c);
  let to = row * PITCH + c;
  near[to] = cell0;
  near[to + 8u * PITCH] = cell1;
  near[to + 16u * PITCH] = cell2;
  near[to + 24u * PITCH] = cell3;
}

// sum + a · b for four rows at once, their vec4s being the columns of a transposed
fn add_dots(sum: vec4f, b: vec4f, a: mat4x4f) -> vec4f {
  return fma(a[3], vec4f(b.w), fma(a[2], vec4f(b.z), fma(a[1], vec4f(b.y), fma(a[0], vec4f(b.x), sum))));
}

// One vec4 column of pair_dots; y and x are where it stands in the first rows of both sides
fn add_column(m: mat4x4f, y: u32, x: u32) -> mat4x4f {
  let a = transpose(mat4x4f(near[y], near[y + PITCH], near[y + 2u * PITCH], near[y + 3u * PITCH]));
  return mat4x4f(
    add_dots(m[0], far[x], a),
    add_dots(m[1], far[x + 8u * PITCH], a),
    add_dots(m[2], far[x + 16u * PITCH], a),
    add_dots(m[3], far[x + 24u * PITCH], a),
  );
}

// m[j][r] = near row · far row over all columns; every thread of the workgroup calls it
fn pair_dots(kind: u32, chunks: u32, lane: u32) -> mat4x4f {
  let y = lane / 8u * 4u * PITCH;
  let x = lane % 8u * PITCH;
  var m = mat4x4f();
  for (var chunk = 0u; chunk < chunks; chunk++) {
    workgroupBarrier();
    load_near(kind, chunk, lane);
    load_far(kind, chunk, lane);
    workgroupBarrier();
    for (var c = 0u; c < CHUNK; c += 4u) {
      m = add_column(m, y + c, x + c);
      m = add_column(m, y + c + 1u, x + c + 1u);
      m = add_column(m, y + c + 2u, x + c + 2u);
      m = add_column(m, y + c + 3u, x + c + 3u);
    }
  }
  return m;
}

// Publishes a thread's pairs for add_far; the barrier is in there.
fn store_weights(m: mat4x4f, lane: u32) {
  let to = lane % 8u * PITCH + lane / 8u;
  weights[to] = m[0];
  weights[to + 8u * PITCH] = m[1];
  weights[to + 16u * PITCH] = m[2];
  weights[to + 24u * PITCH] = m[3];
}

fn add_outer(sum: mat4x4f, a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(
    fma(a, vec4f(b.x), sum[0]),
    fma(a, vec4f(b.y), sum[1]),
    fma(a, vec4f(b.z), sum[2]),
    fma(a, vec4f(b.w), sum[3]),
  );
}

// sum[r] += Σ over far rows: weight(far, near row 4 y + r) · vec4 column x of the chunk of the far row
fn add_far(before: mat4x4f, kind: u32, chunk: u32, lane: u32) -> mat4x4f {
  workgroupBarrier();
  load_far(kind, chunk, lane);
  workgroupBarrier();
  let x = lane % 8u;
  let y = lane / 8u;
  var sum = before;
  for (var at = 0u; at < TILE * PITCH; at += 4u * PITCH) {
    sum = add_outer(sum, far[at + x], weights[at + y]);
    sum = add_outer(sum, far[at + PITCH + x], weights[at + PITCH + y]);
    sum = add_outer(sum, far[at + 2u * PITCH + x], weights[at + 2u * PITCH + y]);
    sum = add_outer(sum, far[at + 3u * PITCH + x], weights[at + 3u * PITCH + y]);
  }
  return sum;
}
