// conv2d_dweight_subgroup: conv2d_dweight.wgsl for adapters whose subgroups have exactly eight lanes
//
// A workgroup is one subgroup and makes 32 input × 32 output channels of one tap and split: each lane reads
// four input channels, shared by broadcast, and its own four output channels of every position.
//
// x, dy  as in conv2d_dweight.wgsl
// sums   (splits, kernel², c_blocks·32, o_blocks·32)
// grid   folded: one workgroup per split, tap, 32 × 32 channels

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

@compute @workgroup_size(8)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = group.y * groups.x + group.x;
  let o = id % params.o_blocks;
  let c = (id / params.o_blocks) % params.c_blocks;
  let taps = params.kernel * params.kernel;
  let tap = (id / (params.o_blocks * params.c_blocks)) % taps;
  let split = id / (params.o_blocks * params.c_blocks * taps);
  if (split >= params.splits) { return; }
  // Lanes beyond the channels read the last ones; what they make is not used.
  let c_quad = min(8u * c + lane, params.in_quads - 1u);
  let o_quad = min(8u * o + lane, params.out_quads - 1u);

  // Output columns whose input column s = stride·column + shift lies inside.
  let shift = i32(tap % params.kernel) - params.left;
  let first = u32(max(0, (-shift + params.stride - 1) / params.stride));
  let past = u32(max(0, (i32(params.in_width) - shift + params.stride - 1) / params.stride));
  let end = min(params.out_width, past);

  var c0 = vec4f(); var c1 = vec4f(); var c2 = vec4f(); var c3 = vec4f();
  var c4 = vec4f(); var c5 = vec4f(); var c6 = vec4f(); var c7 = vec4f();
  var c8 = vec4f(); var c9 = vec4f(); var c10 = vec4f(); var c11 = vec4f();
  var c12 = vec4f(); var c13 = vec4f(); var c14 = vec4f(); var c15 = vec4f();
  var c16 = vec4f(); var c17 = vec4f(); var c18 = vec4f(); var c19 = vec4f();
  var c20 = vec4f(); var c21 = vec4f(); var c22 = vec4f(); var c23 = vec4f();
  var c24 = vec4f(); var c25 = vec4f(); var c26 = vec4f(); var c27 = vec4f();
  var c28 = vec4f(); var c29 = vec4f(); var c30 = vec4f(); var c31 = vec4f();
  let stop = min(params.rows, (split + 1u) * params.rows_per_split);
  for (var row = split * params.rows_per_split; row < stop; row++) {
    let image = row / params.out_height;
    let y = i32(row % params.out_height) * params.stride + i32(tap / params.kernel) - params.top;
    if (y < 0 || y >= i32(params.in_height) || first >= end) { continue; }
    let column = u32(i32(first) * params.stride + shift);
    var at = ((image * params.in_height + u32(y)) * params.in_width + column) * params.in_quads + c_quad;
    var dy_at = (row * params.out_width + first) * params.out_quads + o_quad;
    for (var n = first; n < end; n++) {
      let a = x[at];
      let d = dy[dy_at];
      let a0 = subgroupBroadcast(a, 0u);
      c0 = fma(vec4f(a0.x), d, c0);
      c1 = fma(vec4f(a0.y), d, c1);
      c2 = fma(vec4f(a0.z), d, c2);
      c3 = fma(vec4f(a0.w), d, c3);
      let a1 = subgroupBroadcast(a, 1u);
      c4 = fma(vec4f(a1.x), d, c4);
      c5 = fma(vec4f(a1.y), d, c5);
      c6 = fma(vec4f(a1.z), d, c6);
      c7 = fma(vec4f(a1.w), d, c7);
      let a2 = subgroupBroadcast(a, 2u);
      c8 = fma(vec4f(a2.x), d, c8);
      c9 = fma(vec4f(a2.y), d, c9);
      c10 = fma(vec4f(a2.z), d, c10);
      c11 = fma(vec4f(a2.w), d, c11);
      let a3 = subgroupBroadcast(a, 3u);
      c12 = fma(vec4f(a3.x), d, c12);
      c13 = fma(vec4f(a3.y), d, c13);
      c14 = fma(vec4f(a3.z), d, c14);
      c15 = fma(vec4f(a3.w), d, c15);
      let a4 = subgroupBroadcast(a, 4u);
      c16 = fma(vec4f(a4.x), d, c16);
      c17 = fma(vec4f(a4.y), d, c17);
      c18 = fma(vec4f(a4.z), d, c18);
      c19 = fma(vec4f(a4.w), d, c19);
      let a5 = subgroupBroadcast(a, 5u);
      c20 = fma(vec4f(a5.x), d, c20);
      c21 = fma(vec4f(a5.y), d, c21);
      c22 = fma(vec4f(a5.z), d, c22);
      c23 = fma(vec4f(a5.w), d, c23);
      let a6 = subgroupBroadcast(a, 6u);
      c24 = fma(vec4f(a6.x), d, c24);
      c25 = fma(vec4f(a6.y), d, c25);
      c26 = fma(vec4f(a6.z), d, c26);
      c27 = fma(vec4f(a6.w), d, c27);
      let a7 = subgroupBroadcast(a, 7u);
      c28 = fma(vec4f(a7.x), d, c28);
      c29 = fma(vec4f(a7.y), d, c29);
      c30 = fma(vec4f(a7.z), d, c30);
      c31 = fma(vec4f(a7.w), d, c31);
      at += u32(params.stride) * params.in_quads;
      dy_at += params.out_quads;
    }
  }

  let width = params.o_blocks * 8u;
  let to = ((split * taps + tap) * params.c_blocks + c) * 32u * width + 8u * o + lane;
  sums[to + 0u * width] = c0;
  sums[to + 1u * width] = c1;
  sums[to + 2u * width] = c2;
  sums[to + 3u * width] = c3;
  sums[to + 4u * width] = c4;
  sums[to + 5u * width] = c5;
  sums[to + 6u * width] = c6;
  sums[to + 7u * width] = c7;
  sums[to + 8u * width] = c8;
  sums[to + 9u * width] = c9;
  sums[to + 10u * width] = c10;
  sums[to + 11u * width] = c11;
  sums[to + 12u * width] = c12;
  sums[to + 13u * width] = c13;
  sums[to + 14u * width] = c14;
  sums[to + 15u * width] = c15;
  sums[to + 16u * width] = c16;
  sums[to + 17u * width] = c17;
  sums[to + 18u * width] = c18;
  sums[to + 19u * width] = c19;
  sums[to + 20u * width] = c20;
  sums[to + 21u * width] = c21;
  sums[to + 22u * width] = c22;
  sums[to + 23u * width] = c23;
  sums[to + 24u * width] = c24;
  sums[to + 25u * width] = c25;
  sums[to + 26u * width] = c26;
  sums[to + 27u * width] = c27;
  sums[to + 28u * width] = c28;
  sums[to + 29u * width] = c29;
  sums[to + 30u * width] = c30;
  sums[to + 31u * width] = c31;
}
