// What the attention kernels of 8-lane subgroups share. A subgroup treats tiles of 32 queries by 32 keys; a lane
// owns four rows of one side and gets 4×4 blocks of the other side from all lanes in turn.

const TILE = 256u; // vec4 of a tile, stored (32 keys, 32 queries)

// The block of one lane. Broadcasts name their lane in the code.
fn spread0(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 0u), subgroupBroadcast(x[1], 0u),
    subgroupBroadcast(x[2], 0u), subgroupBroadcast(x[3], 0u),
  );
}

fn spread1(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 1u), subgroupBroadcast(x[1], 1u),
    subgroupBroadcast(x[2], 1u), subgroupBroadcast(x[3], 1u),
  );
}

fn spread2(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 2u), subgroupBroadcast(x[1], 2u),
    subgroupBroadcast(x[2], 2u), subgroupBroadcast(x[3], 2u),
  );
}

fn spread3(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 3u), subgroupBroadcast(x[1], 3u),
    subgroupBroadcast(x[2], 3u), subgroupBroadcast(x[3], 3u),
  );
}

fn spread4(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 4u), subgroupBroadcast(x[1], 4u),
    subgroupBroadcast(x[2], 4u), subgroupBroadcast(x[3], 4u),
  );
}

fn spread5(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 5u), subgroupBroadcast(x[1], 5u),
    subgroupBroadcast(x[2], 5u), subgroupBroadcast(x[3], 5u),
  );
}

fn spread6(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 6u), subgroupBroadcast(x[1], 6u),
    subgroupBroadcast(x[2], 6u), subgroupBroadcast(x[3], 6u),
  );
}

fn spread7(x: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(x[0], 7u), subgroupBroadcast(x[1], 7u),
    subgroupBroadcast(x[2], 7u), subgroupBroadcast(x[3], 7u),
  );
}

fn multiply_row(c: vec4f, a: vec4f, b: mat4x4f) -> vec4f {
  return fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], c))));
}

// c + a·b for blocks held as a[i] = row i over the inner axis, b[k] = row k, c[i] = row i.
fn multiply_add(c: mat4x4f, a: mat4x4f, b: mat4x4f) -> mat4x4f {
  return mat4x4f(
    multiply_row(c[0], a[0], b),
    multiply_row(c[1], a[1], b),
    multiply_row(c[2], a[2], b),
    multiply_row(c[3], a[3], b),
  );
}

const UNSEEN = -1e30;

// Scores of four keys times `scale`; UNSEEN where the bits of the lane's queries, the first key's at `bit`, are 0.
fn masked(s: mat4x4f, scale: f32, bits: vec4u, bit: u32) -> mat4x4f {
  let fallback = vec4f(UNSEEN);
  let none = vec4u();
  return mat4x4f(
    select(fallback, s[0] * scale, (bits & vec4u(1u << bit)) != none),
    select(fallback, s[1] * scale, (bits & vec4u(2u << bit)) != none),
    select(fallback, s[2] * scale, (bits & vec4u(4u << bit)) != none),
    select(fallback, s[3] * scale, (bits & vec4u(8u << bit)) != none),
  );
}
