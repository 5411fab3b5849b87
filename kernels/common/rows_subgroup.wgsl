// Products of one row with eight others where a subgroup is exactly 8 lanes wide: each lane loads one of the
// eight and broadcasts it, so that eight rows of work cost one row of loads. The kernel defines row_a and
// row_b (a vec4f of a row's storage), other_token (a token's mask entry), other_pair (two numbers of a row,
// where it keeps some) and sees (the mask, one pair of tokens).

struct Eight { lo: vec4f, hi: vec4f }
struct Rows { first: u32, last: u32, own: u32 } // the rows first … first + 7, none beyond last
struct Cells { own: vec4f } // one vec4 of the row this lane loads

fn rows_from(first: u32, last: u32, lane: u32) -> Rows {
  return Rows(first, last, min(first + lane, last));
}

// Column c of the eight rows, rows being `stride` vec4 apart.
fn cells_a(r: Rows, stride: u32, c: u32) -> Cells { return Cells(row_a(r.own * stride + c)); }
fn cells_b(r: Rows, stride: u32, c: u32) -> Cells { return Cells(row_b(r.own * stride + c)); }

fn add_dot(s: f32, x: vec4f, r: vec4f) -> f32 {
  return fma(x.w, r.w, fma(x.z, r.z, fma(x.y, r.y, fma(x.x, r.x, s))));
}

// s_j + x · row_j for each of the eight
fn add_dots(s: Eight, x: vec4f, r: Cells) -> Eight {
  return Eight(
    vec4f(
      add_dot(s.lo.x, x, subgroupBroadcast(r.own, 0u)), add_dot(s.lo.y, x, subgroupBroadcast(r.own, 1u)),
      add_dot(s.lo.z, x, subgroupBroadcast(r.own, 2u)), add_dot(s.lo.w, x, subgroupBroadcast(r.own, 3u)),
    ),
    vec4f(
      add_dot(s.hi.x, x, subgroupBroadcast(r.own, 4u)), add_dot(s.hi.y, x, subgroupBroadcast(r.own, 5u)),
      add_dot(s.hi.z, x, subgroupBroadcast(r.own, 6u)), add_dot(s.hi.w, x, subgroupBroadcast(r.own, 7u)),
    ),
  );
}

// s + Σ_j w_j row_j
fn add_rows(s: vec4f, w: Eight, r: Cells) -> vec4f {
  var sum = s;
  sum = fma(vec4f(w.lo.x), subgroupBroadcast(r.own, 0u), sum);
  sum = fma(vec4f(w.lo.y), subgroupBroadcast(r.own, 1u), sum);
  sum = fma(vec4f(w.lo.z), subgroupBroadcast(r.own, 2u), sum);
  sum = fma(vec4f(w.lo.w), subgroupBroadcast(r.own, 3u), sum);
  sum = fma(vec4f(w.hi.x), subgroupBroadcast(r.own, 4u), sum);
  sum = fma(vec4f(w.hi.y), subgroupBroadcast(r.own, 5u), sum);
  sum = fma(vec4f(w.hi.z), subgroupBroadcast(r.own, 6u), sum);
  sum = fma(vec4f(w.hi.w), subgroupBroadcast(r.own, 7u), sum);
  return sum;
}

fn sees_one(own: vec4i, index: u32, r: Rows, other: vec4i, j: u32) -> bool {
  return sees(own, index, other, r.first + j) && r.first + j <= r.last;
}

// x where the own token pairs with the other under the mask, else `fallback`.
fn masked(x: Eight, own: vec4i, index: u32, r: Rows, fallback: f32) -> Eight {
  let token = other_token(r.own);
  let t0 = subgroupBroadcast(token, 0u);
  let t1 = subgroupBroadcast(token, 1u);
  let t2 = subgroupBroadcast(token, 2u);
  let t3 = subgroupBroadcast(token, 3u);
  let t4 = subgroupBroadcast(token, 4u);
  let t5 = subgroupBroadcast(token, 5u);
  let t6 = subgroupBroadcast(token, 6u);
  let t7 = subgroupBroadcast(token, 7u);
  let lo = vec4<bool>(
    sees_one(own, index, r, t0, 0u), sees_one(own, index, r, t1, 1u),
    sees_one(own, index, r, t2, 2u), sees_one(own, index, r, t3, 3u),
  );
  let hi = vec4<bool>(
    sees_one(own, index, r, t4, 4u), sees_one(own, index, r, t5, 5u),
    sees_one(own, index, r, t6, 6u), sees_one(own, index, r, t7, 7u),
  );
  return Eight(select(vec4f(fallback), x.lo, lo), select(vec4f(fallback), x.hi, hi));
}

struct Pairs { x: Eight, y: Eight }

fn spread(value: f32) -> Eight {
  return Eight(
    vec4f(
      subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u),
      subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u),
    ),
    vec4f(
      subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u),
      subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u),
    ),
  );
}

// The eight rows' pairs of numbers.
fn pairs(r: Rows, start: u32) -> Pairs {
  let own = other_pair(start + r.own);
  return Pairs(spread(own.x), spread(own.y));
}
