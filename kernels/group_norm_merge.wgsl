// group_norm_merge: the chunks of one group into its mean m and 1/σ, by Σ_k n_k (m_k - m)² + Σ_k q_k = N σ²
// (Chan, Golub, LeVeque 1979, eq. 2.1, over all chunks at once), written out per channel.
//
// means, squares  (images, chunks, channels) from group_norm_chunks.wgsl
// stats           (images, channels, 2): mean and 1/√(σ² + eps) of the channel's group
// grid            (groups, images): one workgroup per group; sums have a fixed order

override BLOCK: u32 = 64;   // a power of two

struct Params { pixels: u32, channels: u32, per_group: u32, chunks: u32, chunk: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> means: array<f32>;
@group(0) @binding(1) var<storage, read> squares: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> shares: array<f32, BLOCK>;

fn total(lane: u32, share: f32) -> f32 {
  workgroupBarrier();
  shares[lane] = share;
  workgroupBarrier();
  for (var half = BLOCK / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shares[lane] += shares[lane + half]; }
    workgroupBarrier();
  }
  return shares[0];
}

@compute @workgroup_size(BLOCK)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = group.y * params.chunks * params.channels + group.x * params.per_group;
  let parts = params.chunks * params.per_group;
  let whole = f32(params.pixels * params.per_group);
  let last = params.chunks - 1u;
  let tail = f32(params.pixels - last * params.chunk);

  var share = 0.0;
  for (var k = lane; k < parts; k += BLOCK) {
    let chunk = k / params.per_group;
    let count = select(f32(params.chunk), tail, chunk == last);
    share = fma(count, means[start + chunk * params.channels + k % params.per_group], share);
  }
  let mean = total(lane, share) / whole;

  share = 0.0;
  for (var k = lane; k < parts; k += BLOCK) {
    let chunk = k / params.per_group;
    let count = select(f32(params.chunk), tail, chunk == last);
    let at = start + chunk * params.channels + k % params.per_group;
    let d = means[at] - mean;
    share += squares[at] + count * d * d;
  }
  let variance = total(lane, share) / whole;

  let to = group.y * params.channels + group.x * params.per_group;
  for (var c = lane; c < params.per_group; c += BLOCK) {
    stats[to + c] = vec2f(mean, 1.0 / sqrt(variance + params.eps));
  }
}
