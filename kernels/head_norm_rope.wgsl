// head_norm_rope: takes rows [q | k | v] of a stacked projection apart, norms every q and k head and rotates it:
//   n = x · rstd · weight,  rstd = 1 / sqrt(mean_d x[d]² + eps),
//   y[d] = n[d] cos - n[d + D/2] sin,   y[d + D/2] = n[d + D/2] cos + n[d] sin      for q and k heads
//   y = x                                                                            for v heads
//
// x           (tokens, heads + 2 · key_heads, 2 · pairs); pairs = D/2 counted in packs
// norms       (2, 2 · pairs), weights of the q and of the k heads; cosine, sine (tokens, pairs)
// places      where MAPPED is 1: the row of y that each token's heads are, else their own
// y           q (rows of y, heads, 2 · pairs), then, from the packs k_start and v_start on, k and v (rows of y,
//             key_heads, 2 · pairs) each
// stats       (tokens, heads + 2 · key_heads) = rstd, for the gradient, which does not read those of v heads
// grid        folded: LANES threads per head of x
// parts       common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl
// source      Zhang & Sennrich 2019, eq. 4; Su et al. 2021, eq. 34, with the halves of a head in place of neighbours

override BLOCK: u32 = 64;
override LANES: u32 = 1;
override MAPPED: u32 = 0;
alias pack = f32;

struct Params {
  rows: u32, pairs: u32, heads: u32, key_heads: u32, size: u32, k_start: u32, v_start: u32, eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> norms: array<pack>;
@group(0) @binding(2) var<storage, read> cosine: array<pack>;
@group(0) @binding(3) var<storage, read> sine: array<pack>;
@group(0) @binding(4) var<storage, read> places: array<i32>;
@group(0) @binding(5) var<storage, read_write> y: array<pack>;
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let pairs = params.pairs;
  let row = (group.y * groups.x + group.x) * (BLOCK / LANES) + lane / LANES;
  let safe = min(row, params.rows - 1u);
  let slots = params.heads + 2u * params.key_heads;
  let token = safe / slots;
  let slot = safe % slots;
  let start = safe * 2u * pairs;
  var sums = pack();
  for (var c = lane % LANES; c < 2u * pairs; c += LANES) {
    let value = x[start + c];
    sums = fma(value, value, sums);
  }
  let squares = pack_sum(sums);
  let rstd = 1.0 / sqrt(row_sum(lane, squares) / f32(params.size) + params.eps);
  if (row >= params.rows) { return; }
  if (lane % LANES == 0u) { stats[row] = rstd; }
  let is_q = slot < params.heads;
  let is_v = slot >= params.heads + params.key_heads;
  let weights = select(2u * pairs, 0u, is_q);
  var place = token;
  if (MAPPED == 1u) { place = u32(places[token]); }
  let key = place * params.key_heads + (slot - params.heads) % params.key_heads;
  let head = select(key, place * params.heads + slot, is_q);
  let out = select(select(params.k_start, params.v_start, is_v), 0u, is_q) + head * 2u * pairs;
  for (var c = lane % LANES; c < pairs; c += LANES) {
    var first = x[start + c];
    var second = x[start + pairs + c];
    if (!is_v) {
      let a = first * rstd * norms[weights + c];
      let b = second * rstd * norms[weights + pairs + c];
      let cos_c = cosine[token * pairs + c];
      let sin_c = sine[token * pairs + c];
      first = a * cos_c - b * sin_c;
      second = b * cos_c + a * sin_c;
    }
    y[out + c] = first;
    y[out + pairs + c] = second;
  }
}
