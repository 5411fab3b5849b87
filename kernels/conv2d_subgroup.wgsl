// conv2d_subgroup: conv2d.wgsl for adapters whose subgroups have exactly eight lanes (software ones)
//
// A workgroup is one subgroup and makes 32 positions × 32 channels. Each lane reads the pixels of four
// positions, which it shares with the others by broadcast, and the weights of its own four channels. Loads
// are what such adapters are slow at: here each serves 32 products.
//
// x, w, y  as in conv2d.wgsl; w_quads is a multiple of 8
// grid     folded: one workgroup per 32 positions × 32 channels

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

fn store(m: u32, quad: u32, value: vec4f) {
  if (m >= params.positions || quad >= params.out_quads) { return; }
  let at = m * params.out_quads + quad;
  if (ADD == 1u) { y[at] += value; } else { y[at] = value; }
}

@compute @workgroup_size(8)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = group.y * groups.x + group.x;
  let columns = params.w_quads / 8u;
  let m = (id / columns) * 32u;
  let quad = (id % columns) * 8u + lane;
  if (m >= params.positions) { return; }

  let p0 = locate(m + lane);
  let p1 = locate(m + lane + 8u);
  let p2 = locate(m + lane + 16u);
  let p3 = locate(m + lane + 24u);
  let start = w[params.kernel * params.kernel * params.in_quads * 4u * params.w_quads + quad];
  var c0 = start; var c1 = start; var c2 = start; var c3 = start;
  var c4 = start; var c5 = start; var c6 = start; var c7 = start;
  var c8 = start; var c9 = start; var c10 = start; var c11 = start;
  var c12 = start; var c13 = start; var c14 = start; var c15 = start;
  var c16 = start; var c17 = start; var c18 = start; var c19 = start;
  var c20 = start; var c21 = start; var c22 = start; var c23 = start;
  var c24 = start; var c25 = start; var c26 = start; var c27 = start;
  var c28 = start; var c29 = start; var c30 = start; var c31 = start;

  var row = quad;
  for (var ky = 0u; ky < params.kernel; ky++) {
    for (var kx = 0u; kx < params.kernel; kx++) {
      let tap = vec2i(vec2u(ky, kx));
      let s0 = source(p0, tap);
      let s1 = source(p1, tap);
      let s2 = source(p2, tap);
      let s3 = source(p3, tap);
      for (var q = 0u; q < params.in_quads; q++) {
        let b0 = w[row];
        let b1 = w[row + params.w_quads];
        let b2 = w[row + 2u * params.w_quads];
        let b3 = w[row + 3u * params.w_quads];
        row += 4u * params.w_quads;
        let a0 = pixel(s0, q);
        c0 = mac(c0, subgroupBroadcast(a0, 0u), b0, b1, b2, b3);
        c1 = mac(c1, subgroupBroadcast(a0, 1u), b0, b1, b2, b3);
        c2 = mac(c2, subgroupBroadcast(a0, 2u), b0, b1, b2, b3);
        c3 = mac(c3, subgroupBroadcast(a0, 3u), b0, b1, b2, b3);
        c4 = mac(c4, subgroupBroadcast(a0, 4u), b0, b1, b2, b3);
        c5 = mac(c5, subgroupBroadcast(a0, 5u), b0, b1, b2, b3);
        c6 = mac(c6, subgroupBroadcast(a0, 6u), b0, b1, b2, b3);
        c7 = mac(c7, subgroupBroadcast(a0, 7u), b0, b1, b2, b3);
        let a1 = pixel(s1, q);
        c8 = mac(c8, subgroupBroadcast(a1, 0u), b0, b1, b2, b3);
        c9 = mac(c9, subgroupBroadcast(a1, 1u), b0, b1, b2, b3);
        c10 = mac(c10, subgroupBroadcast(a1, 2u), b0, b1, b2, b3);
        c11 = mac(c11, subgroupBroadcast(a1, 3u), b0, b1, b2, b3);
        c12 = mac(c12, subgroupBroadcast(a1, 4u), b0, b1, b2, b3);
        c13 = mac(c13, subgroupBroadcast(a1, 5u), b0, b1, b2, b3);
        c14 = mac(c14, subgroupBroadcast(a1, 6u), b0, b1, b2, b3);
        c15 = mac(c15, subgroupBroadcast(a1, 7u), b0, b1, b2, b3);
        let a2 = pixel(s2, q);
        c16 = mac(c16, subgroupBroadcast(a2, 0u), b0, b1, b2, b3);
        c17 = mac(c17, subgroupBroadcast(a2, 1u), b0, b1, b2, b3);
        c18 = mac(c18, subgroupBroadcast(a2, 2u), b0, b1, b2, b3);
        c19 = mac(c19, subgroupBroadcast(a2, 3u), b0, b1, b2, b3);
        c20 = mac(c20, subgroupBroadcast(a2, 4u), b0, b1, b2, b3);
        c21 = mac(c21, subgroupBroadcast(a2, 5u), b0, b1, b2, b3);
        c22 = mac(c22, subgroupBroadcast(a2, 6u), b0, b1, b2, b3);
        c23 = mac(c23, subgroupBroadcast(a2, 7u), b0, b1, b2, b3);
        let a3 = pixel(s3, q);
        c24 = mac(c24, subgroupBroadcast(a3, 0u), b0, b1, b2, b3);
        c25 = mac(c25, subgroupBroadcast(a3, 1u), b0, b1, b2, b3);
        c26 = mac(c26, subgroupBroadcast(a3, 2u), b0, b1, b2, b3);
        c27 = mac(c27, subgroupBroadcast(a3, 3u), b0, b1, b2, b3);
        c28 = mac(c28, subgroupBroadcast(a3, 4u), b0, b1, b2, b3);
        c29 = mac(c29, subgroupBroadcast(a3, 5u), b0, b1, b2, b3);
        c30 = mac(c30, subgroupBroadcast(a3, 6u), b0, b1, b2, b3);
        c31 = mac(c31, subgroupBroadcast(a3, 7u), b0, b1, b2, b3);
      }
    }
  }

  store(m + 0u, quad, c0);
  store(m + 1u, quad, c1);
  store(m + 2u, quad, c2);
  store(m + 3u, quad, c3);
  store(m + 4u, quad, c4);
  store(m + 5u, quad, c5);
  store(m + 6u, quad, c6);
  store(m + 7u, quad, c7);
  store(m + 8u, quad, c8);
  store(m + 9u, quad, c9);
  store(m + 10u, quad, c10);
  store(m + 11u, quad, c11);
  store(m + 12u, quad, c12);
  store(m + 13u, quad, c13);
  store(m + 14u, quad, c14);
  store(m + 15u, quad, c15);
  store(m + 16u, quad, c16);
  store(m + 17u, quad, c17);
  store(m + 18u, quad, c18);
  store(m + 19u, quad, c19);
  store(m + 20u, quad, c20);
  store(m + 21u, quad, c21);
  store(m + 22u, quad, c22);
  store(m + 23u, quad, c23);
  store(m + 24u, quad, c24);
  store(m + 25u, quad, c25);
  store(m + 26u, quad, c26);
  store(m + 27u, quad, c27);
  store(m + 28u, quad, c28);
  store(m + 29u, quad, c29);
  store(m + 30u, quad, c30);
  store(m + 31u, quad, c31);
}
