// Who may attend to whom among packed tokens. A token is (sample, split, branch, flags), its index the
// position in packed order; lib/ops/attention_mask.ts writes them.
//
//   same sample, and the key not after the query unless both are in one image split,
//   and the key not in another split's noise, and the key in no other branch,
//   and the key not hidden from a noise query of another split

const AHEAD = 1; // key of a full or noise split: its own split sees it whatever the order
const NOISE = 2; // key or query of a noise split
const HIDDEN = 4; // key that noise queries of other splits do not see

fn may_attend(query: vec4i, query_index: u32, key: vec4i, key_index: u32) -> bool {
  let own = query.y == key.y;
  let refused = select(NOISE, NOISE | HIDDEN, (query.w & NOISE) != 0);
  let within = key_index <= query_index || (own && (key.w & AHEAD) != 0);
  return query.x == key.x && within && (own || (key.w & refused) == 0) &&
    (key.z == 0 || key.z == query.z);
}
