// head_norm_rope_backward: gradient of head_norm_rope's rows. With g the rotated-back gradient of a head,
//   g[d] = dy[d] cos + dy[d + D/2] sin,   g[d + D/2] = dy[d + D/2] cos - dy[d] sin,
//   dx[d] = rstd · (weight[d] g[d] - x[d] · rstd² · mean_j x[j] weight[j] g[j])      for q and k heads
//   dx = dy                                                                           for v heads
//
// x, dx   (tokens, heads + 2 · key_heads, 2 · pairs); pairs = D/2 counted in packs
// norms   (2, 2 · pairs); cosine, sine (tokens, pairs)
// places  where MAPPED is 1: the row of dy that each token's heads are, else their own
// dy      dq (rows of dy, heads, 2 · pairs), then, from the packs k_start and v_start on, dk and dv (rows of dy,
//         key_heads, 2 · pairs) each
// given   bits 1, 2, 4: whether dq, dk, dv hold gradients; what is not given counts as zero
// grid    folded: LANES threads per head of x
// parts   common/row_reduce.wgsl, common/pack1.wgsl or pack4.wgsl

override BLOCK: u32 = 64;
override LANES: u32 = 1;
override MAPPED: u32 = 0;
alias pack = f32;

struct Params {
  rows: u32, pairs: u32, heads: u32, key_heads: u32, size: u32, k_start: u32, v_start: u32, given: u32, eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> norms: array<pack>;
@group(0) @binding(2) var<storage, read> cosine: array<pack>;
@group(0) @binding(3) var<storage, read> sine: array<pack>;
@group(0) @binding(4) var<storage, read> dy: array<pack>;
@group(0) @binding(5) var<storage, read> places: array<i32>;
@group(0) @binding(6) var<storage, read_write> dx: array<pack>;
@group(0) @binding(7) var<uniform> params: Params;

struct Two { first: pack, second: pack }

// The gradient of pair `c` of the head at `first` before the rotation by the angle at `angle`.
fn turned_back(first: u32, angle: u32, c: u32) -> Two {
  let a = dy[first + c];
  let b = dy[first + params.pairs + c];
  let cos_c = cosine[angle + c];
  let sin_c = sine[angle + c];
  return Two(a * cos_c + b * sin_c, b * cos_c - a * sin_c);
}

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
  let is_q = slot < params.heads;
  let is_v = slot >= params.heads + params.key_heads;
  let part = select(select(1u, 2u, is_v), 0u, is_q);
  let given = (params.given & (1u << part)) != 0u;
  var place = token;
  if (MAPPED == 1u) { place = u32(places[token]); }
  let key = place * params.key_heads + (slot - params.heads) % params.key_heads;
  let head = select(key, place * params.heads + slot, is_q);
  let source = select(select(params.k_start, params.v_start, is_v), 0u, is_q) + head * 2u * pairs;
  let angle = token * pairs;
  let weights = select(2u * pairs, 0u, is_q);
  var squares = 0.0;
  var along = 0.0;
  for (var c = lane % LANES; c < pairs; c += LANES) {
    let a = x[start + c];
    let b = x[start + pairs + c];
    let g = turned_back(source, angle, c);
    squares += pack_sum(a * a + b * b);
    along += pack_sum(a * norms[weights + c] * g.first + b * norms[weights + pairs + c] * g.second);
  }
  let count = f32(params.size);
  let rstd = 1.0 / sqrt(row_sum(lane, squares) / count + params.eps);
  let mean = row_sum(lane, along) * rstd / count;
  if (row >= params.rows) { return; }
  for (var c = lane % LANES; c < pairs; c += LANES) {
    let g = turned_back(source, angle, c);
    var first = rstd * (norms[weights + c] * g.first - x[start + c] * (rstd * mean));
    var second =
      rstd * (norms[weights + pairs + c] * g.second - x[start + pairs + c] * (rstd * mean));
    if (is_v) {
      first = dy[source + c];
      second = dy[source + pairs + c];
    }
    dx[start + c] = select(pack(), first, given);
    dx[start + pairs + c] = select(pack(), second, given);
  }
}
