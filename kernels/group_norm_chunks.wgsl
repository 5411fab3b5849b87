// group_norm_chunks: per image, chunk of pixels and channel, the mean and the sum of squared distances
// from it. The second sweep over a chunk finds it in the cache; distances from the chunk's own mean keep
// their digits when the values are large and nearly equal.
//
// x        (images, pixels, quads·4), or a range of one image's pixels that begins with a chunk
// means    (images, chunks, quads·4), written from chunk `first` on
// squares  (images, chunks, quads·4), likewise
// grid     folded: one invocation per image, chunk and four channels

override BLOCK: u32 = 64;

struct Params { n: u32, pixels: u32, quads: u32, chunks: u32, chunk: u32, first: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> means: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> squares: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(BLOCK)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * groups.x + group.x) * BLOCK + lane;
  if (id >= params.n) { return; }
  let quad = id % params.quads;
  let chunk = (id / params.quads) % params.chunks;
  let image = id / (params.quads * params.chunks);
  let begin = chunk * params.chunk;
  let count = min(params.pixels, begin + params.chunk) - begin;
  let start = (image * params.pixels + begin) * params.quads + quad;
  var mean = vec4f();
  for (var p = 0u; p < count; p++) { mean += x[start + p * params.quads]; }
  mean /= f32(count);
  var square = vec4f();
  for (var p = 0u; p < count; p++) {
    let d = x[start + p * params.quads] - mean;
    square = fma(d, d, square);
  }
  let at = params.first * params.quads + id;
  means[at] = mean;
  squares[at] = square;
}
