// rope: rotates the pair (x[n, h, k], x[n, h, k + D/2]) by the angle of token n and pair k,
//   y[k] = x[k] cos - x[k + D/2] sin,   y[k + D/2] = x[k + D/2] cos + x[k] sin
//
// x, y      (tokens, heads, 2 · pairs); cosine, sine (tokens, pairs); pairs counted in packs
// grid      folded: one invocation per pack of pairs
// direction 1, or -1 for the inverse rotation, which is the gradient
// source    Su et al. 2021, eq. 34, with the halves of a head in place of its neighbours

override BLOCK: u32 = 64;
alias pack = f32;

struct Params { n: u32, heads: u32, pairs: u32, direction: f32 }

@group(0) @binding(0) var<storage, read> x: array<pack>;
@group(0) @binding(1) var<storage, read> cosine: array<pack>;
@group(0) @binding(2) var<storage, read> sine: array<pack>;
@group(0) @binding(3) var<storage, read_write> y: array<pack>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * BLOCK + lane;
  if (i >= params.n) { return; }
  let k = i % params.pairs;
  let head = i / params.pairs; // over tokens and heads
  let angle = (head / params.heads) * params.pairs + k;
  let c = cosine[angle];
  let s = sine[angle] * params.direction;
  let first = head * 2u * params.pairs + k;
  let a = x[first];
  let b = x[first + params.pairs];
  y[first] = a * c - b * s;
  y[first + params.pairs] = b * c + a * s;
}
