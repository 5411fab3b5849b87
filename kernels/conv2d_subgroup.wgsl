// conv2d_subgroup: conv2d.wgsl for adapters whose subgroups have exactly eight lanes (software ones)
//
// A workgroup is one subgroup and makes 32 positions × 32 channels. Each lane reads the pixels of four positions,
// which it shares with the others by broadcast, and the weights of its own four channels: loads are what such
// adapters are slow at, and each serves 32 products.
//
// x, w, y  as in conv2d.wgsl; w_quads is a multiple of 8
// grid     folded: one workgroup per 32 positions × 32 channels
// parts    common/matmul_block.wgsl, common/conv2d_tile.wgsl

override ADD: u32 = 0;    // 1: added to what y holds

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

fn x4(at: u32) -> vec4f { return x[at]; }
fn w4(at: u32) -> vec4f { return w[at]; }

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
  return select(vec4f(), x4(u32(max(start, 0)) + q), start >= 0);
}

fn store_row(m: u32, quad: u32, plane: u32, value: vec4f) {
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

  let own = m + 4u * lane;
  let p0 = locate(own);
  let p1 = locate(own + 1u);
  let p2 = locate(own + 2u);
  let p3 = locate(own + 3u);
  let step = params.w_quads;
  var sums = tile_of(w4(params.kernel * params.kernel * params.in_quads * 4u * step + quad));
  var row = quad;
  for (var ky = 0u; ky < params.kernel; ky++) {
    for (var kx = 0u; kx < params.kernel; kx++) {
      let tap = vec2i(vec2u(ky, kx));
      let s0 = source(p0, tap);
      let s1 = source(p1, tap);
      let s2 = source(p2, tap);
      let s3 = source(p3, tap);
      for (var q = 0u; q < params.in_quads; q++) {
        let a = mat4x4f(pixel(s0, q), pixel(s1, q), pixel(s2, q), pixel(s3, q));
        let b = mat4x4f(w4(row), w4(row + step), w4(row + 2u * step), w4(row + 3u * step));
        sums = add_products(sums, a, b);
        row += 4u * step;
      }
    }
  }
  store_tile(m, quad, 0u, sums);
}
