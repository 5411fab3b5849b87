// merge_rows: y[r, c] = x0[from0[r], c] where from0[r] ≥ 0, else x1[from1[r], c] where from1[r] ≥ 0, else 0
//
// x0, x1, y     (…, cols) row-major; cols counted in packs
// from0, from1  (n / cols)
// grid          folded: one invocation per pack of y

override BLOCK: u32 = 64;
alias pack = f32;

struct Params { n: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x0: array<pack>;
@group(0) @binding(1) var<storage, read> x1: array<pack>;
@group(0) @binding(2) var<storage, read> from0: array<i32>;
@group(0) @binding(3) var<storage, read> from1: array<i32>;
@group(0) @binding(4) var<storage, read_write> y: array<pack>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let r = i / params.cols;
  let c = i % params.cols;
  let a = from0[r];
  let b = from1[r];
  if (a >= 0) {
    y[i] = x0[u32(a) * params.cols + c];
  } else if (b >= 0) {
    y[i] = x1[u32(b) * params.cols + c];
  } else {
    y[i] = pack();
  }
}
