// norm_dweight: the first stage of a norm's weight gradient. Slab s is a run of slab_rows rows:
//   partial[s, c]        = Σ_{r in slab s} dy[r, c] · (x[r, c] - mean_r) · rstd_r
//   partial[s, cols + c] = Σ_{r in slab s} dy[r, c]                              where BIAS is 1
//
// x, dy    (rows, cols); stats (rows, 2) = (mean, rstd); partial (slabs, cols · (1 + BIAS)); in packs
// grid     folded: one invocation per slab and column; first_slab is where this launch's slabs start
// parts    none

override BLOCK: u32 = 64;
override BIAS: u32 = 0;
alias pack = f32;

struct Params { rows: u32, cols: u32, slabs: u32, slab_rows: u32, first_slab: u32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> dy: array<pack>;
@group(0) @binding(2) var<storage, read> stats: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partial: array<pack>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  let slab = i / params.cols;
  let c = i % params.cols;
  if (slab >= params.slabs) { return; }
  let end = min((slab + 1u) * params.slab_rows, params.rows);
  var scaled = pack();
  var plain = pack();
  for (var r = slab * params.slab_rows; r < end; r++) {
    let g = dy[r * params.cols + c];
    let s = stats[r];
    scaled += g * ((x[r * params.cols + c] - s.x) * s.y);
    if (BIAS == 1u) { plain += g; }
  }
  let out = (params.first_slab + slab) * params.cols * (1u + BIAS) + c;
  partial[out] = scaled;
  if (BIAS == 1u) { partial[out + params.cols] = plain; }
}
