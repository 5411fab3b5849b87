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

fn load_far(kind: u32, chunk: u32, lane: u32) {
  for (var i = lane; i < TILE * CHUNK; i += THREADS) {
    far[i / CHUNK * PITCH + i % CHUNK] = far_cell(kind, i / CHUNK, chunk * CHUNK + i % CHUNK);
  }
}

fn load_near(kind: u32, chunk: u32, lane: u32) {
  for (var i = lane; i < TILE * CHUNK; i += THREADS) {
    near[i / CHUNK * PITCH + i % CHUNK] = near_cell(kind, i / CHUNK, chunk * CHUNK + i % CHUNK);
  }
}

fn outer(a: vec4f, b: vec4f) -> mat4x4f { return mat4x4f(a * b.x, a * b.y, a * b.z, a * b.w); }

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
    for (var c = 0u; c < CHUNK; c++) {
      // rows r of the near block as columns of a: (b_j · a)[r] = near_r · far_j
      let a = mat4x4f(near[y + c], near[y + PITCH + c], near[y + 2u * PITCH + c], near[y + 3u * PITCH + c]);
      m += mat4x4f(
        far[x + c] * a, far[x + 8u * PITCH + c] * a,
        far[x + 16u * PITCH + c] * a, far[x + 24u * PITCH + c] * a,
      );
    }
  }
  return m;
}

// Publishes a thread's pairs for add_far; the barrier is in there.
fn store_weights(m: mat4x4f, lane: u32) {
  for (var j = 0u; j < 4u; j++) { weights[(lane % 8u + 8u * j) * PITCH + lane / 8u] = m[j]; }
}

// sum[r] += Σ over far rows: weight(far, near row 4 y + r) · vec4 column x of the chunk of the far row
fn add_far(before: mat4x4f, kind: u32, chunk: u32, lane: u32) -> mat4x4f {
  workgroupBarrier();
  load_far(kind, chunk, lane);
  workgroupBarrier();
  var sum = before;
  for (var i = 0u; i < TILE; i++) {
    sum += outer(far[i * PITCH + lane % 8u], weights[i * PITCH + lane / 8u]);
  }
  return sum;
}
