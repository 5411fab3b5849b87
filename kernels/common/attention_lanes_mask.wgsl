// The rule of common/attention_mask.wgsl for one key and the four queries that a lane owns.

const UNSEEN = -1e30;

struct Own { sample: vec4i, split: vec4i, branch: vec4i, refused: vec4i, index: vec4u }

// Four queries from their tokens, the first at `index` among the keys.
fn own_queries(t0: vec4i, t1: vec4i, t2: vec4i, t3: vec4i, index: u32) -> Own {
  let flags = vec4i(t0.w, t1.w, t2.w, t3.w);
  return Own(
    vec4i(t0.x, t1.x, t2.x, t3.x),
    vec4i(t0.y, t1.y, t2.y, t3.y),
    vec4i(t0.z, t1.z, t2.z, t3.z),
    select(vec4i(NOISE), vec4i(NOISE | HIDDEN), (flags & vec4i(NOISE)) != vec4i(0)),
    vec4u(index) + vec4u(0u, 1u, 2u, 3u),
  );
}

// A key as the bits of a row of a matrix: sample, split, branch, and index · 8 + flags. A key that does not
// count gets an index behind every query and no flag that lets it be seen from before.
fn key_bits(token: vec4i, index: u32, counts: bool) -> vec4f {
  let place = select(0xfffffff8u, 8u * index + u32(token.w), counts);
  return bitcast<vec4f>(vec4i(token.xyz, bitcast<i32>(place)));
}

fn seen(own: Own, bits: vec4f) -> vec4<bool> {
  let key = bitcast<vec4i>(bits);
  let place = bitcast<u32>(key.w);
  let same = own.split == vec4i(key.y);
  let ahead = vec4<bool>((key.w & AHEAD) != 0);
  let shared_key = vec4<bool>(key.z == 0);
  return (own.sample == vec4i(key.x)) & ((vec4u(place / 8u) <= own.index) | (same & ahead)) &
    (same | ((vec4i(key.w) & own.refused) == vec4i(0))) & (shared_key | (own.branch == vec4i(key.z)));
}

// Scores of four keys times `scale`, UNSEEN where a query does not see a key.
fn masked(s: mat4x4f, scale: f32, own: Own, keys: mat4x4f) -> mat4x4f {
  let fallback = vec4f(UNSEEN);
  return mat4x4f(
    select(fallback, s[0] * scale, seen(own, keys[0])),
    select(fallback, s[1] * scale, seen(own, keys[1])),
    select(fallback, s[2] * scale, seen(own, keys[2])),
    select(fallback, s[3] * scale, seen(own, keys[3])),
  );
}
