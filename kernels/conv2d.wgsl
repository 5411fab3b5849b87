// conv2d: y[m, o] = b[o] + Σ_{tap, c} x[source(m, tap), c] · w[tap, c, o]: a matrix product whose rows are
// gathered on the way (implicit GEMM). The same kernel computes dx from dy: see `multiply`, `divide`, `direction`.
//
// m     output position (image, row, column), flat
// x     (images, in_height, in_width, in_quads·4)
// w     (kernel²·in_quads·4 + 1, w_quads·4) from conv2d_pack.wgsl; the last row is the bias
// y     (positions, out_quads·4)
// grid  folded: one invocation per 8 positions × 8 output channels

override BLOCK: u32 = 64;
override ADD: u32 = 0;   // 1: added to what y holds

struct Params {
  positions: u32,
  out_height: u32,
  out_width: u32,
  in_height: u32,
  in_width: u32,
  in_quads: u32,
  out_quads: u32,
  w_quads: u32,
  kernel: u32,
  multiply: i32,   // input row = (multiply · output row + direction · tap + top) / divide, if whole and inside:
  divide: i32,     // forward (stride, 1, +1, -pad), gradient (1, stride, -1, +pad)
  direction: i32,
  top: i32,
  left: i32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> w: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

// (image, row, column) of an output position; far above every image when there is none.
fn locate(m: u32) -> vec3i {
  let row = m / params.out_width;
  let at = vec3u(row / params.out_height, row % params.out_height, m % params.out_width);
  return select(vec3i(0, -0x100000, 0), vec3i(at), m < params.positions);
}

// First quad of the pixel read under a tap, or -1 in the padding.
fn source(at: vec3i, tap: vec2i) -> i32 {
  let s = at.yz * params.multiply + tap * params.direction + vec2i(params.top, params.left);
  let p = s / params.divide;
  let size = vec2i(vec2u(params.in_height, params.in_width));
  let inside = all(s >= vec2i(0)) && all(p < size) && all(p * params.divide == s);
  return select(-1, ((at.x * size.x + p.x) * size.y + p.y) * i32(params.in_quads), inside);
}

fn pixel(start: i32, q: u32) -> vec4f {
  return select(vec4f(), x[u32(max(start, 0)) + q], start >= 0);
}

fn mac(sum: vec4f, a: vec4f, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) -> vec4f {
  return fma(vec4f(a.w), b3, fma(vec4f(a.z), b2, fma(vec4f(a.y), b1, fma(vec4f(a.x), b0, sum))));
}

fn write(at: u32, value: vec4f) {
  if (ADD == 1u) { y[at] += value; } else { y[at] = value; }
}

fn store(m: u32, quad: u32, left: vec4f, right: vec4f) {
  if (m >= params.positions) { return; }
  let at = m * params.out_quads + quad;
  write(at, left);
  if (quad + 1u < params.out_quads) { write(at + 1u, right); }
}

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  let columns = (params.out_quads + 1u) / 2u;
  let m = (id / columns) * 8u;
  let quad = (id % columns) * 2u;
  if (m >= params.positions) { return; }

  let p0 = locate(m);
  let p1 = locate(m + 1u);
  let p2 = locate(m + 2u);
  let p3 = locate(m + 3u);
  let p4 = locate(m + 4u);
  let p5 = locate(m + 5u);
  let p6 = locate(m + 6u);
  let p7 = locate(m + 7u);
  let last = params.kernel * params.kernel * params.in_quads * 4u * params.w_quads + quad;
  var c00 = w[last];
  var c01 = w[last + 1u];
  var c10 = c00; var c11 = c01;
  var c20 = c00; var c21 = c01;
  var c30 = c00; var c31 = c01;
  var c40 = c00; var c41 = c01;
  var c50 = c00; var c51 = c01;
  var c60 = c00; var c61 = c01;
  var c70 = c00; var c71 = c01;

  var row = quad;
  for (var ky = 0u; ky < params.kernel; ky++) {
    for (var kx = 0u; kx < params.kernel; kx++) {
      let tap = vec2i(vec2u(ky, kx));
      let s0 = source(p0, tap);
      let s1 = source(p1, tap);
      let s2 = source(p2, tap);
      let s3 = source(p3, tap);
      let s4 = source(p4, tap);
      let s5 = source(p5, tap);
      let s6 = source(p6, tap);
      let s7 = source(p7, tap);
      for (var q = 0u; q < params.in_quads; q++) {
        let r1 = row + params.w_quads;
        let r2 = r1 + params.w_quads;
        let r3 = r2 + params.w_quads;
        let b00 = w[row]; let b01 = w[row + 1u];
        let b10 = w[r1];  let b11 = w[r1 + 1u];
        let b20 = w[r2];  let b21 = w[r2 + 1u];
        let b30 = w[r3];  let b31 = w[r3 + 1u];
        row = r3 + params.w_quads;
        let a0 = pixel(s0, q);
        c00 = mac(c00, a0, b00, b10, b20, b30); c01 = mac(c01, a0, b01, b11, b21, b31);
        let a1 = pixel(s1, q);
        c10 = mac(c10, a1, b00, b10, b20, b30); c11 = mac(c11, a1, b01, b11, b21, b31);
        let a2 = pixel(s2, q);
        c20 = mac(c20, a2, b00, b10, b20, b30); c21 = mac(c21, a2, b01, b11, b21, b31);
        let a3 = pixel(s3, q);
        c30 = mac(c30, a3, b00, b10, b20, b30); c31 = mac(c31, a3, b01, b11, b21, b31);
        let a4 = pixel(s4, q);
        c40 = mac(c40, a4, b00, b10, b20, b30); c41 = mac(c41, a4, b01, b11, b21, b31);
        let a5 = pixel(s5, q);
        c50 = mac(c50, a5, b00, b10, b20, b30); c51 = mac(c51, a5, b01, b11, b21, b31);
        let a6 = pixel(s6, q);
        c60 = mac(c60, a6, b00, b10, b20, b30); c61 = mac(c61, a6, b01, b11, b21, b31);
        let a7 = pixel(s7, q);
        c70 = mac(c70, a7, b00, b10, b20, b30); c71 = mac(c71, a7, b01, b11, b21, b31);
      }
    }
  }

  store(m, quad, c00, c01);
  store(m + 1u, quad, c10, c11);
  store(m + 2u, quad, c20, c21);
  store(m + 3u, quad, c30, c31);
  store(m + 4u, quad, c40, c41);
  store(m + 5u, quad, c50, c51);
  store(m + 6u, quad, c60, c61);
  store(m + 7u, quad, c70, c71);
}
