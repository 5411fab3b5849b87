// conv2d_subgroup: conv2d.wgsl for adapters whose subgroups have exactly eight lanes (software ones)
//
// A workgroup is one subgroup and makes 32 positions × 32 channels, or 64 × 64 where WIDE. Each lane reads the
// pixels of four positions, which it shares with the others by broadcast, and the weights of its own four
// channels. Loads are what such adapters are slow at: here each serves 32 products, or 64.
//
// x, w, y  as in conv2d.wgsl; w_quads is a multiple of 8, or 16
// grid     folded: one workgroup per 32 positions × 32 channels, or 64 × 64

override ADD: u32 = 0;    // 1: added to what y holds
override WIDE: u32 = 0;   // 1: 64 positions × 64 channels: seconds to compile, and faster by half and more

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

fn pixels(start: vec4i, q: u32) -> mat4x4f {
  return mat4x4f(pixel(start.x, q), pixel(start.y, q), pixel(start.z, q), pixel(start.w, q));
}

// Four rows of the weight, in the columns of one quad.
fn weights(row: u32) -> mat4x4f {
  let step = params.w_quads;
  return mat4x4f(w[row], w[row + step], w[row + 2u * step], w[row + 3u * step]);
}

fn mac(sum: vec4f, a: vec4f, b: mat4x4f) -> vec4f {
  return fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], sum))));
}

// sums of four positions + their pixels · weights
fn add_products(c: mat4x4f, a: mat4x4f, b: mat4x4f) -> mat4x4f {
  return mat4x4f(mac(c[0], a[0], b), mac(c[1], a[1], b), mac(c[2], a[2], b), mac(c[3], a[3], b));
}

fn of_lane_0(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 0u), subgroupBroadcast(a[1], 0u),
    subgroupBroadcast(a[2], 0u), subgroupBroadcast(a[3], 0u),
  );
}
fn of_lane_1(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 1u), subgroupBroadcast(a[1], 1u),
    subgroupBroadcast(a[2], 1u), subgroupBroadcast(a[3], 1u),
  );
}
fn of_lane_2(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 2u), subgroupBroadcast(a[1], 2u),
    subgroupBroadcast(a[2], 2u), subgroupBroadcast(a[3], 2u),
  );
}
fn of_lane_3(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 3u), subgroupBroadcast(a[1], 3u),
    subgroupBroadcast(a[2], 3u), subgroupBroadcast(a[3], 3u),
  );
}
fn of_lane_4(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 4u), subgroupBroadcast(a[1], 4u),
    subgroupBroadcast(a[2], 4u), subgroupBroadcast(a[3], 4u),
  );
}
fn of_lane_5(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 5u), subgroupBroadcast(a[1], 5u),
    subgroupBroadcast(a[2], 5u), subgroupBroadcast(a[3], 5u),
  );
}
fn of_lane_6(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 6u), subgroupBroadcast(a[1], 6u),
    subgroupBroadcast(a[2], 6u), subgroupBroadcast(a[3], 6u),
  );
}
fn of_lane_7(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 7u), subgroupBroadcast(a[1], 7u),
    subgroupBroadcast(a[2], 7u), subgroupBroadcast(a[3], 7u),
  );
}

fn store(m: u32, quad: u32, value: vec4f) {
  if (m >= params.positions || quad >= params.out_quads) { return; }
  let at = m * params.out_quads + quad;
  if (ADD == 1u) { y[at] += value; } else { y[at] = value; }
}

fn store_four(m: u32, quad: u32, c: mat4x4f) {
  store(m, quad, c[0]);
  store(m + 1u, quad, c[1]);
  store(m + 2u, quad, c[2]);
  store(m + 3u, quad, c[3]);
}

@compute @workgroup_size(8)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = group.y * groups.x + group.x;
  let columns = params.w_quads / (8u + 8u * WIDE);
  let m = (id / columns) * (32u + 32u * WIDE);
  let quad = (id % columns) * (8u + 8u * WIDE) + lane;
  if (m >= params.positions) { return; }

  let own = m + 4u * lane;
  let p0 = locate(own);
  let p1 = locate(own + 1u);
  let p2 = locate(own + 2u);
  let p3 = locate(own + 3u);
  let p4 = locate(own + 32u);
  let p5 = locate(own + 33u);
  let p6 = locate(own + 34u);
  let p7 = locate(own + 35u);
  let last = params.kernel * params.kernel * params.in_quads * 4u * params.w_quads + quad;
  let bias = w[last];
  let near = mat4x4f(bias, bias, bias, bias);
  // c, d: 32 positions and the 32 behind them; e, f: the same for the 32 channels behind
  var c0 = near; var c1 = near; var c2 = near; var c3 = near;
  var c4 = near; var c5 = near; var c6 = near; var c7 = near;
  var d0 = near; var d1 = near; var d2 = near; var d3 = near;
  var d4 = near; var d5 = near; var d6 = near; var d7 = near;
  let bias_behind = w[last + 8u * WIDE];
  let far = mat4x4f(bias_behind, bias_behind, bias_behind, bias_behind);
  var e0 = far; var e1 = far; var e2 = far; var e3 = far;
  var e4 = far; var e5 = far; var e6 = far; var e7 = far;
  var f0 = far; var f1 = far; var f2 = far; var f3 = far;
  var f4 = far; var f5 = far; var f6 = far; var f7 = far;

  var row = quad;
  for (var ky = 0u; ky < params.kernel; ky++) {
    for (var kx = 0u; kx < params.kernel; kx++) {
      let tap = vec2i(vec2u(ky, kx));
      let s = vec4i(source(p0, tap), source(p1, tap), source(p2, tap), source(p3, tap));
      let t = vec4i(source(p4, tap), source(p5, tap), source(p6, tap), source(p7, tap));
      for (var q = 0u; q < params.in_quads; q++) {
        let a = pixels(s, q);
        let b = weights(row);
        let a0 = of_lane_0(a);
        c0 = add_products(c0, a0, b);
        let a1 = of_lane_1(a);
        c1 = add_products(c1, a1, b);
        let a2 = of_lane_2(a);
        c2 = add_products(c2, a2, b);
        let a3 = of_lane_3(a);
        c3 = add_products(c3, a3, b);
        let a4 = of_lane_4(a);
        c4 = add_products(c4, a4, b);
        let a5 = of_lane_5(a);
        c5 = add_products(c5, a5, b);
        let a6 = of_lane_6(a);
        c6 = add_products(c6, a6, b);
        let a7 = of_lane_7(a);
        c7 = add_products(c7, a7, b);
        if (WIDE == 1u) {
          let behind = weights(row + 8u);
          e0 = add_products(e0, a0, behind);
          e1 = add_products(e1, a1, behind);
          e2 = add_products(e2, a2, behind);
          e3 = add_products(e3, a3, behind);
          e4 = add_products(e4, a4, behind);
          e5 = add_products(e5, a5, behind);
          e6 = add_products(e6, a6, behind);
          e7 = add_products(e7, a7, behind);
          let z = pixels(t, q);
          let z0 = of_lane_0(z);
          d0 = add_products(d0, z0, b);
          f0 = add_products(f0, z0, behind);
          let z1 = of_lane_1(z);
          d1 = add_products(d1, z1, b);
          f1 = add_products(f1, z1, behind);
          let z2 = of_lane_2(z);
          d2 = add_products(d2, z2, b);
          f2 = add_products(f2, z2, behind);
          let z3 = of_lane_3(z);
          d3 = add_products(d3, z3, b);
          f3 = add_products(f3, z3, behind);
          let z4 = of_lane_4(z);
          d4 = add_products(d4, z4, b);
          f4 = add_products(f4, z4, behind);
          let z5 = of_lane_5(z);
          d5 = add_products(d5, z5, b);
          f5 = add_products(f5, z5, behind);
          let z6 = of_lane_6(z);
          d6 = add_products(d6, z6, b);
          f6 = add_products(f6, z6, behind);
          let z7 = of_lane_7(z);
          d7 = add_products(d7, z7, b);
          f7 = add_products(f7, z7, behind);
        }
        row += 4u * params.w_quads;
      }
    }
  }

  store_four(m + 0u, quad, c0);
  store_four(m + 4u, quad, c1);
  store_four(m + 8u, quad, c2);
  store_four(m + 12u, quad, c3);
  store_four(m + 16u, quad, c4);
  store_four(m + 20u, quad, c5);
  store_four(m + 24u, quad, c6);
  store_four(m + 28u, quad, c7);
  if (WIDE == 1u) {
    store_four(m + 32u, quad, d0);
    store_four(m + 36u, quad, d1);
    store_four(m + 40u, quad, d2);
    store_four(m + 44u, quad, d3);
    store_four(m + 48u, quad, d4);
    store_four(m + 52u, quad, d5);
    store_four(m + 56u, quad, d6);
    store_four(m + 60u, quad, d7);
    store_four(m + 0u, quad + 8u, e0);
    store_four(m + 4u, quad + 8u, e1);
    store_four(m + 8u, quad + 8u, e2);
    store_four(m + 12u, quad + 8u, e3);
    store_four(m + 16u, quad + 8u, e4);
    store_four(m + 20u, quad + 8u, e5);
    store_four(m + 24u, quad + 8u, e6);
    store_four(m + 28u, quad + 8u, e7);
    store_four(m + 32u, quad + 8u, f0);
    store_four(m + 36u, quad + 8u, f1);
    store_four(m + 40u, quad + 8u, f2);
    store_four(m + 44u, quad + 8u, f3);
    store_four(m + 48u, quad + 8u, f4);
    store_four(m + 52u, quad + 8u, f5);
    store_four(m + 56u, quad + 8u, f6);
    store_four(m + 60u, quad + 8u, f7);
  }
}
