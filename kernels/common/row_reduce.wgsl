// Sums and maxima over the LANES neighbouring threads that share one row. The main file declares
// BLOCK, threads per workgroup, and LANES, a power of two that divides it; with LANES = 1 nothing is
// shared and no barrier is left. Call in uniform control flow, by all threads.

var<workgroup> row_scratch: array<f32, BLOCK>;

fn row_sum(lane: u32, value: f32) -> f32 {
  if (LANES == 1u) { return value; }
  row_scratch[lane] = value;
  for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
    workgroupBarrier();
    if (lane % LANES < reach) { row_scratch[lane] += row_scratch[lane + reach]; }
  }
  workgroupBarrier();
  let result = row_scratch[lane - lane % LANES];
  workgroupBarrier();
  return result;
}

fn row_max(lane: u32, value: f32) -> f32 {
  if (LANES == 1u) { return value; }
  row_scratch[lane] = value;
  for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
    workgroupBarrier();
    if (lane % LANES < reach) {
      row_scratch[lane] = max(row_scratch[lane], row_scratch[lane + reach]);
    }
  }
  workgroupBarrier();
  let result = row_scratch[lane - lane % LANES];
  workgroupBarrier();
  return result;
}
