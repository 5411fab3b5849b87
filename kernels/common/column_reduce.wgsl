// Sums over the TALL threads that share one column: threads lane, lane + BLOCK / TALL, lane + 2 BLOCK / TALL, … of a
// workgroup. The main file declares BLOCK, threads per workgroup, TALL, a power of two that divides it, and the alias
// pack; with TALL = 1 nothing is shared and no barrier is left. Call in uniform control flow, by all threads.

var<workgroup> column_scratch: array<pack, BLOCK>;

// The column's sum in the first of its threads, something else in the others.
fn column_total(lane: u32, value: pack) -> pack {
  if (TALL == 1u) { return value; }
  column_scratch[lane] = value;
  for (var reach = BLOCK / 2u; reach >= BLOCK / TALL; reach /= 2u) {
    workgroupBarrier();
    if (lane < reach) { column_scratch[lane] += column_scratch[lane + reach]; }
  }
  let result = column_scratch[lane];
  workgroupBarrier();
  return result;
}
