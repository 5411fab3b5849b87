// conv2d_dweight_subgroup: conv2d_dweight.wgsl for adapters whose subgroups have exactly eight lanes (software ones)
//
// A workgroup is one subgroup and makes 32 input × 32 output channels of one tap and split: each lane reads
// four input channels, shared by broadcast, and its own four output channels, of four positions at a time.
//
// x, dy  as in conv2d_dweight.wgsl
// sums   (splits, kernel², c_blocks·32, o_blocks·32)
// grid   folded: one workgroup per split, tap, 32 × 32 channels
// parts  common/matmul_block.wgsl, common/conv2d_tile.wgsl

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

fn x4(at: u32) -> vec4f { return x[at]; }
fn dy4(at: u32) -> vec4f { return dy[at]; }

fn store_row(row: u32, quad: u32, plane: u32, value: vec4f) {
  sums[(plane + row) * params.o_blocks * 8u + quad] = value;
}

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
  let x_step = u32(params.stride) * params.in_quads;
  let dy_step = params.out_quads;

  var made = tile_of(vec4f());
  let stop = min(params.rows, (split + 1u) * params.rows_per_split);
  for (var row = split * params.rows_per_split; row < stop; row++) {
    let image = row / params.out_height;
    let y = i32(row % params.out_height) * params.stride + i32(tap / params.kernel) - params.top;
    if (y < 0 || y >= i32(params.in_height) || first >= end) { continue; }
    let column = u32(i32(first) * params.stride + shift);
    let x_row = ((image * params.in_height + u32(y)) * params.in_width + column) * params.in_quads + c_quad;
    let dy_row = (row * params.out_width + first) * params.out_quads + o_quad;
    let last = end - 1u - first;
    for (var n = 0u; n <= last; n += 4u) {
      // Positions past the end repeat the last one, of which nothing is added.
      let n1 = min(n + 1u, last);
      let n2 = min(n + 2u, last);
      let n3 = min(n + 3u, last);
      let a = mat4x4f(
        x4(x_row + n * x_step), x4(x_row + n1 * x_step), x4(x_row + n2 * x_step), x4(x_row + n3 * x_step),
      );
      let b = mat4x4f(
        dy4(dy_row + n * dy_step),
        select(vec4f(), dy4(dy_row + n1 * dy_step), n1 > n),
        select(vec4f(), dy4(dy_row + n2 * dy_step), n2 > n1),
        select(vec4f(), dy4(dy_row + n3 * dy_step), n3 > n2),
      );
      made = add_products(made, transpose(a), b);
    }
  }
  store_tile(32u * c, 8u * o + lane, (split * taps + tap) * params.c_blocks * 32u, made);
}
