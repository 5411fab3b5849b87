// sum_slabs: y[c] = Σ_s x[s, first + c], in ascending s
//
// x     (slabs, stride); y (cols); all counted in packs
// grid  folded: one invocation per column

override BLOCK: u32 = 64;
alias pack = f32;

struct Params { slabs: u32, stride: u32, first: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read_write> y: array<pack>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let c = (group.y * groups.x + group.x) * BLOCK + lane;
  if (c >= params.cols) { return; }
  var sum = pack();
  for (var s = 0u; s < params.slabs; s++) { sum += x[s * params.stride + params.first + c]; }
  y[c] = sum;
}
