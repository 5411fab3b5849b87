// Products of one row with eight others, each invocation loading all eight. The kernel defines row_a and
// row_b (a vec4f of a row's storage), other_token (a token's mask entry), other_pair (two numbers of a row,
// where it keeps some) and sees (the mask, one pair of tokens).

struct Eight { lo: vec4f, hi: vec4f }
struct Rows { first: u32, last: u32 } // the rows first … first + 7, none beyond last
struct Cells { // one vec4 of each of the eight
  c0: vec4f, c1: vec4f, c2: vec4f, c3: vec4f, c4: vec4f, c5: vec4f, c6: vec4f, c7: vec4f,
}

fn rows_from(first: u32, last: u32, lane: u32) -> Rows { return Rows(first, last); }

fn row(r: Rows, j: u32) -> u32 { return min(r.first + j, r.last); }

// Column c of the eight rows, rows being `stride` vec4 apart.
fn cells_a(r: Rows, stride: u32, c: u32) -> Cells {
  return Cells(
    row_a(row(r, 0u) * stride + c), row_a(row(r, 1u) * stride + c),
    row_a(row(r, 2u) * stride + c), row_a(row(r, 3u) * stride + c),
    row_a(row(r, 4u) * stride + c), row_a(row(r, 5u) * stride + c),
    row_a(row(r, 6u) * stride + c), row_a(row(r, 7u) * stride + c),
  );
}

fn cells_b(r: Rows, stride: u32, c: u32) -> Cells {
  return Cells(
    row_b(row(r, 0u) * stride + c), row_b(row(r, 1u) * stride + c),
    row_b(row(r, 2u) * stride + c), row_b(row(r, 3u) * stride + c),
    row_b(row(r, 4u) * stride + c), row_b(row(r, 5u) * stride + c),
    row_b(row(r, 6u) * stride + c), row_b(row(r, 7u) * stride + c),
  );
}

fn add_dot(s: f32, x: vec4f, r: vec4f) -> f32 {
  return fma(x.w, r.w, fma(x.z, r.z, fma(x.y, r.y, fma(x.x, r.x, s))));
}

// s_j + x · row_j for each of the eight
fn add_dots(s: Eight, x: vec4f, r: Cells) -> Eight {
  return Eight(
    vec4f(
      add_dot(s.lo.x, x, r.c0), add_dot(s.lo.y, x, r.c1),
      add_dot(s.lo.z, x, r.c2), add_dot(s.lo.w, x, r.c3),
    ),
    vec4f(
      add_dot(s.hi.x, x, r.c4), add_dot(s.hi.y, x, r.c5),
      add_dot(s.hi.z, x, r.c6), add_dot(s.hi.w, x, r.c7),
    ),
  );
}

// s + Σ_j w_j row_j
fn add_rows(s: vec4f, w: Eight, r: Cells) -> vec4f {
  var sum = s;
  sum = fma(vec4f(w.lo.x), r.c0, sum);
  sum = fma(vec4f(w.lo.y), r.c1, sum);
  sum = fma(vec4f(w.lo.z), r.c2, sum);
  sum = fma(vec4f(w.lo.w), r.c3, sum);
  sum = fma(vec4f(w.hi.x), r.c4, sum);
  sum = fma(vec4f(w.hi.y), r.c5, sum);
  sum = fma(vec4f(w.hi.z), r.c6, sum);
  sum = fma(vec4f(w.hi.w), r.c7, sum);
  return sum;
}

fn sees_one(own: vec4i, index: u32, r: Rows, j: u32) -> bool {
  return sees(own, index, other_token(row(r, j)), r.first + j) && r.first + j <= r.last;
}

// x where the own token pairs with the other under the mask, else `fallback`.
fn masked(x: Eight, own: vec4i, index: u32, r: Rows, fallback: f32) -> Eight {
  let lo = vec4<bool>(
    sees_one(own, index, r, 0u), sees_one(own, index, r, 1u),
    sees_one(own, index, r, 2u), sees_one(own, index, r, 3u),
  );
  let hi = vec4<bool>(
    sees_one(own, index, r, 4u), sees_one(own, index, r, 5u),
    sees_one(own, index, r, 6u), sees_one(own, index, r, 7u),
  );
  return Eight(select(vec4f(fallback), x.lo, lo), select(vec4f(fallback), x.hi, hi));
}

struct Pairs { x: Eight, y: Eight }

// The eight rows' pairs of numbers.
fn pairs(r: Rows, start: u32) -> Pairs {
  let p0 = other_pair(start + row(r, 0u));
  let p1 = other_pair(start + row(r, 1u));
  let p2 = other_pair(start + row(r, 2u));
  let p3 = other_pair(start + row(r, 3u));
  let p4 = other_pair(start + row(r, 4u));
  let p5 = other_pair(start + row(r, 5u));
  let p6 = other_pair(start + row(r, 6u));
  let p7 = other_pair(start + row(r, 7u));
  return Pairs(
    Eight(vec4f(p0.x, p1.x, p2.x, p3.x), vec4f(p4.x, p5.x, p6.x, p7.x)),
    Eight(vec4f(p0.y, p1.y, p2.y, p3.y), vec4f(p4.y, p5.y, p6.y, p7.y)),
  );
}
