// Sums of a convolution on a subgroup of eight lanes: 32 rows × 32 columns, of which a lane holds all rows of its own
// four columns. Goes with common/matmul_block.wgsl.

// Block i: rows 4 i … 4 i + 3.
struct Tile { c0: mat4x4f, c1: mat4x4f, c2: mat4x4f, c3: mat4x4f, c4: mat4x4f, c5: mat4x4f, c6: mat4x4f, c7: mat4x4f }

fn tile_of(row: vec4f) -> Tile {
  let block = mat4x4f(row, row, row, row);
  return Tile(block, block, block, block, block, block, block, block);
}

// Four steps of k: `a` is block `lane` of the left operand, which all lanes share, `b` this lane's columns of the right.
fn add_products(t: Tile, a: mat4x4f, b: mat4x4f) -> Tile {
  return Tile(
    multiply_add(t.c0, of_lane_0(a), b), multiply_add(t.c1, of_lane_1(a), b),
    multiply_add(t.c2, of_lane_2(a), b), multiply_add(t.c3, of_lane_3(a), b),
    multiply_add(t.c4, of_lane_4(a), b), multiply_add(t.c5, of_lane_5(a), b),
    multiply_add(t.c6, of_lane_6(a), b), multiply_add(t.c7, of_lane_7(a), b),
  );
}

fn store_tile(row: u32, column: u32, plane: u32, t: Tile) {
  store_block(row, column, plane, t.c0);
  store_block(row + 4u, column, plane, t.c1);
  store_block(row + 8u, column, plane, t.c2);
  store_block(row + 12u, column, plane, t.c3);
  store_block(row + 16u, column, plane, t.c4);
  store_block(row + 20u, column, plane, t.c5);
  store_block(row + 24u, column, plane, t.c6);
  store_block(row + 28u, column, plane, t.c7);
}

fn of_lane_0(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 0u), subgroupBroadcast(a[1], 0u),
    subgroupBroadcast(a[2], 0u), subgroupBroadcast(a[3], 0u),
  );
}
fn of_lane_1(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 1u), subgroupBroadcast(a[1], 1u),
    subgroupBroadcast(a[2], 1u), subgroupBroadcast(a[3], 1u),
  );
}
fn of_lane_2(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 2u), subgroupBroadcast(a[1], 2u),
    subgroupBroadcast(a[2], 2u), subgroupBroadcast(a[3], 2u),
  );
}
fn of_lane_3(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 3u), subgroupBroadcast(a[1], 3u),
    subgroupBroadcast(a[2], 3u), subgroupBroadcast(a[3], 3u),
  );
}
fn of_lane_4(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 4u), subgroupBroadcast(a[1], 4u),
    subgroupBroadcast(a[2], 4u), subgroupBroadcast(a[3], 4u),
  );
}
fn of_lane_5(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 5u), subgroupBroadcast(a[1], 5u),
    subgroupBroadcast(a[2], 5u), subgroupBroadcast(a[3], 5u),
  );
}
fn of_lane_6(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 6u), subgroupBroadcast(a[1], 6u),
    subgroupBroadcast(a[2], 6u), subgroupBroadcast(a[3], 6u),
  );
}
fn of_lane_7(a: mat4x4f) -> mat4x4f {
  return mat4x4f(
    subgroupBroadcast(a[0], 7u), subgroupBroadcast(a[1], 7u),
    subgroupBroadcast(a[2], 7u), subgroupBroadcast(a[3], 7u),
  );
}
