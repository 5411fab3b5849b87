// What kernels written for packs of values need when a pack is a vec4f.

fn pack_sum(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn pack_max(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn pack_at(v: vec4f, index: u32) -> f32 { return v[index]; }

// 1 where the pack's columns first, first + 1, … reach `index`, else 0
fn pack_onehot(first: u32, index: u32) -> vec4f {
  return select(vec4f(), vec4f(1.0), first + vec4u(0u, 1u, 2u, 3u) == vec4u(index));
}
