// Products of one row with eight others, each invocation loading all eight. The kernel defines row_a and
// row_b (a vec4f of a row's storage), other_token (a token's mask entry), other_pair (two numbers of a row,
// where it keeps some) and sees (the mask, one pair of tokens).

struct Eight { lo: vec4f, hi: vec4f }
struct Rows { first: u32, last: u32 } // the eight rows first … first + 7, none beyond last

fn rows_from(first: u32, last: u32, lane: u32) -> Rows { return Rows(first, last); }

fn row(r: Rows, j: u32) -> u32 { return min(r.first + j, r.last); }

// Σ over the vec4 of column c: x · a[row]
fn dots_a(x: vec4f, r: Rows, stride: u32, c: u32) -> Eight {
  return Eight(
    vec4f(
      dot(x, row_a(row(r, 0u) * stride + c)), dot(x, row_a(row(r, 1u) * stride + c)),
      dot(x, row_a(row(r, 2u) * stride + c)), dot(x, row_a(row(r, 3u) * stride + c)),
    ),
    vec4f(
      dot(x, row_a(row(r, 4u) * stride + c)), dot(x, row_a(row(r, 5u) * stride + c)),
      dot(x, row_a(row(r, 6u) * stride + c)), dot(x, row_a(row(r, 7u) * stride + c)),
    ),
  );
}

fn dots_b(x: vec4f, r: Rows, stride: u32, c: u32) -> Eight {
  return Eight(
    vec4f(
      dot(x, row_b(row(r, 0u) * stride + c)), dot(x, row_b(row(r, 1u) * stride + c)),
      dot(x, row_b(row(r, 2u) * stride + c)), dot(x, row_b(row(r, 3u) * stride + c)),
    ),
    vec4f(
      dot(x, row_b(row(r, 4u) * stride + c)), dot(x, row_b(row(r, 5u) * stride + c)),
      dot(x, row_b(row(r, 6u) * stride + c)), dot(x, row_b(row(r, 7u) * stride + c)),
    ),
  );
}

// Σ over the eight rows: weight_j · a[row_j], the vec4 of column c
fn sum_a(w: Eight, r: Rows, stride: u32, c: u32) -> vec4f {
  return w.lo.x * row_a(row(r, 0u) * stride + c) + w.lo.y * row_a(row(r, 1u) * stride + c) +
    w.lo.z * row_a(row(r, 2u) * stride + c) + w.lo.w * row_a(row(r, 3u) * stride + c) +
    w.hi.x * row_a(row(r, 4u) * stride + c) + w.hi.y * row_a(row(r, 5u) * stride + c) +
    w.hi.z * row_a(row(r, 6u) * stride + c) + w.hi.w * row_a(row(r, 7u) * stride + c);
}

fn sum_b(w: Eight, r: Rows, stride: u32, c: u32) -> vec4f {
  return w.lo.x * row_b(row(r, 0u) * stride + c) + w.lo.y * row_b(row(r, 1u) * stride + c) +
    w.lo.z * row_b(row(r, 2u) * stride + c) + w.lo.w * row_b(row(r, 3u) * stride + c) +
    w.hi.x * row_b(row(r, 4u) * stride + c) + w.hi.y * row_b(row(r, 5u) * stride + c) +
    w.hi.z * row_b(row(r, 6u) * stride + c) + w.hi.w * row_b(row(r, 7u) * stride + c);
}

fn sees_one(own: vec4i, index: u32, r: Rows, j: u32) -> bool {
  return sees(own, index, other_token(row(r, j)), r.first + j) && r.first + j <= r.last;
}

// Which of the eight the own token is paired with by the mask; `fallback` replaces the others' values.
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

// The eight rows' pairs of numbers, first and second ones apart.
struct Pairs { first: Eight, second: Eight }

fn pairs(r: Rows, start: u32) -> Pairs {
  let a = other_pair(start + row(r, 0u));
  let b = other_pair(start + row(r, 1u));
  let c = other_pair(start + row(r, 2u));
  let d = other_pair(start + row(r, 3u));
  let e = other_pair(start + row(r, 4u));
  let f = other_pair(start + row(r, 5u));
  let g = other_pair(start + row(r, 6u));
  let h = other_pair(start + row(r, 7u));
  return Pairs(
    Eight(vec4f(a.x, b.x, c.x, d.x), vec4f(e.x, f.x, g.x, h.x)),
    Eight(vec4f(a.y, b.y, c.y, d.y), vec4f(e.y, f.y, g.y, h.y)),
  );
}
