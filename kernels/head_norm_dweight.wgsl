// head_norm_dweight: gradients of head_norm_rope's two norm weights, summed over tokens and heads. With g the
// rotated-back gradient of a head and rstd that of the forward pass,
//   dnorms[0, d] = Σ over q heads of g[d] · x[d] · rstd,   dnorms[1, d] the same over k heads
// Each thread adds up every BLOCK-th token in ascending order, then the threads' sums are added in a tree.
//
// x           (tokens, heads + 2 · key_heads, 2 · pairs); pairs = D/2 counted in packs
// cosine, sine (tokens, pairs); stats (tokens, heads + 2 · key_heads) = rstd
// places      where MAPPED is 1: the row of dy that each token's heads are, else their own
// dy          dq (rows of dy, heads, 2 · pairs), then, from the pack k_start on, dk (rows of dy, key_heads, 2 · pairs)
// dnorms      (parts, 2, 2 · pairs), each part the sum over part_tokens tokens
// given       bits 1 and 2: whether dq and dk hold gradients; what is not given counts as zero
// grid        x over pairs, y over q and k, z over parts
// parts       common/column_reduce.wgsl

override BLOCK: u32 = 64;
override TALL: u32 = 64; // as BLOCK: a workgroup has one column of pairs
override MAPPED: u32 = 0;
alias pack = f32;

struct Params {
  tokens: u32, pairs: u32, heads: u32, key_heads: u32, k_start: u32, given: u32, part_tokens: u32,
}

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> cosine: array<pack>;
@group(0) @binding(2) var<storage, read> sine: array<pack>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<pack>;
@group(0) @binding(5) var<storage, read> places: array<i32>;
@group(0) @binding(6) var<storage, read_write> dnorms: array<pack>;
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let pairs = params.pairs;
  let c = group.x;
  let of_k = group.y == 1u;
  let heads = select(params.heads, params.key_heads, of_k);
  let slots = params.heads + 2u * params.key_heads;
  let skipped = select(0u, params.heads, of_k); // heads of x before this part's
  let start = select(0u, params.k_start, of_k);
  var end = min((group.z + 1u) * params.part_tokens, params.tokens);
  if ((params.given & (1u << group.y)) == 0u) { end = 0u; }
  var first = pack();
  var second = pack();
  for (var token = group.z * params.part_tokens + lane; token < end; token += BLOCK) {
    let cos_c = cosine[token * pairs + c];
    let sin_c = sine[token * pairs + c];
    var place = token;
    if (MAPPED == 1u) { place = u32(places[token]); }
    for (var h = 0u; h < heads; h++) {
      let at = token * slots + skipped + h;
      let source = start + (place * heads + h) * 2u * pairs + c;
      let a = dy[source];
      let b = dy[source + pairs];
      let rstd = stats[at];
      first += (a * cos_c + b * sin_c) * (x[at * 2u * pairs + c] * rstd);
      second += (b * cos_c - a * sin_c) * (x[at * 2u * pairs + pairs + c] * rstd);
    }
  }
  let first_total = column_total(lane, first);
  let second_total = column_total(lane, second);
  if (lane == 0u) {
    let out = (2u * group.z + group.y) * 2u * pairs + c;
    dnorms[out] = first_total;
    dnorms[out + pairs] = second_total;
  }
}
