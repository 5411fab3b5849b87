// conv2d_dweight: sums[s, tap, c, o] = Σ_{m in split s} x[source(m, tap), c] · dy[m, o]
//
// The sum runs over every output position, far longer than the result is wide: output rows are divided
// among `splits`, whose sums conv2d_unpack.wgsl adds in order, so that the result is reproducible.
//
// x        (images, in_height, in_width, in_quads·4)
// dy       (rows = images·out_height, out_width, out_quads·4)
// sums  (splits, kernel², c_blocks·8, o_blocks·8)
// grid     folded: one invocation per split, tap, 8 input channels × 8 output channels

override BLOCK: u32 = 64;

struct Params {
  rows: u32,
  out_height: u32,
  out_width: u32,
  in_height: u32,
  in_width: u32,
  in_quads: u32,
  out_quads: u32,
  c_blocks: u32,
  o_blocks: u32,
  kernel: u32,
  splits: u32,
  rows_per_split: u32,
  stride: i32,
  top: i32,
  left: i32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  let o = id % params.o_blocks;
  let c = (id / params.o_blocks) % params.c_blocks;
  let taps = params.kernel * params.kernel;
  let tap = (id / (params.o_blocks * params.c_blocks)) % taps;
  let split = id / (params.o_blocks * params.c_blocks * taps);
  if (split >= params.splits) { return; }

  // Output columns whose input column s = stride·column + shift lies inside.
  let shift = i32(tap % params.kernel) - params.left;
  let first = u32(max(0, (-shift + params.stride - 1) / params.stride));
  let past = u32(max(0, (i32(params.in_width) - shift + params.stride - 1) / params.stride));
  let end = min(params.out_width, past);

  var c00 = vec4f(); var c01 = vec4f();
  var c10 = vec4f(); var c11 = vec4f();
  var c20 = vec4f(); var c21 = vec4f();
  var c30 = vec4f(); var c31 = vec4f();
  var c40 = vec4f(); var c41 = vec4f();
  var c50 = vec4f(); var c51 = vec4f();
  var c60 = vec4f(); var c61 = vec4f();
  var c70 = vec4f(); var c71 = vec4f();
  let stop = min(params.rows, (split + 1u) * params.rows_per_split);
  for (var row = split * params.rows_per_split; row < stop; row++) {
    let image = row / params.out_height;
    let y = i32(row % params.out_height) * params.stride + i32(tap / params.kernel) - params.top;
    if (y < 0 || y >= i32(params.in_height) || first >= end) { continue; }
    let column = u32(i32(first) * params.stride + shift);
    var at = ((image * params.in_height + u32(y)) * params.in_width + column) * params.in_quads + 2u * c;
    var dy_at = (row * params.out_width + first) * params.out_quads + 2u * o;
    for (var n = first; n < end; n++) {
      let a = x[at];
      let b = x[at + 1u];
      let d = dy[dy_at];
      let e = dy[dy_at + 1u];
      c00 = fma(vec4f(a.x), d, c00); c01 = fma(vec4f(a.x), e, c01);
      c10 = fma(vec4f(a.y), d, c10); c11 = fma(vec4f(a.y), e, c11);
      c20 = fma(vec4f(a.z), d, c20); c21 = fma(vec4f(a.z), e, c21);
      c30 = fma(vec4f(a.w), d, c30); c31 = fma(vec4f(a.w), e, c31);
      c40 = fma(vec4f(b.x), d, c40); c41 = fma(vec4f(b.x), e, c41);
      c50 = fma(vec4f(b.y), d, c50); c51 = fma(vec4f(b.y), e, c51);
      c60 = fma(vec4f(b.z), d, c60); c61 = fma(vec4f(b.z), e, c61);
      c70 = fma(vec4f(b.w), d, c70); c71 = fma(vec4f(b.w), e, c71);
      at += u32(params.stride) * params.in_quads;
      dy_at += params.out_quads;
    }
  }

  let width = params.o_blocks * 2u;
  let to = ((split * taps + tap) * params.c_blocks + c) * 8u * width + 2u * o;
  sums[to] = c00;              sums[to + 1u] = c01;
  sums[to + width] = c10;      sums[to + width + 1u] = c11;
  sums[to + 2u * width] = c20; sums[to + 2u * width + 1u] = c21;
  sums[to + 3u * width] = c30; sums[to + 3u * width + 1u] = c31;
  sums[to + 4u * width] = c40; sums[to + 4u * width + 1u] = c41;
  sums[to + 5u * width] = c50; sums[to + 5u * width + 1u] = c51;
  sums[to + 6u * width] = c60; sums[to + 6u * width + 1u] = c61;
  sums[to + 7u * width] = c70; sums[to + 7u * width + 1u] = c71;
}
