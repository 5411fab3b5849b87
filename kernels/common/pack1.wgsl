// What kernels written for packs of values need when a pack is one f32.

fn pack_sum(v: f32) -> f32 { return v; }
fn pack_max(v: f32) -> f32 { return v; }
fn pack_at(v: f32, index: u32) -> f32 { return v; }

// 1 where the pack's columns first, first + 1, … reach `index`, else 0
fn pack_onehot(first: u32, index: u32) -> f32 { return select(0.0, 1.0, first == index); }
