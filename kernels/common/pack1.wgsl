// What kernels written for packs of values need when a pack is one f32.

fn pack_sum(v: f32) -> f32 { return v; }
fn pack_max(v: f32) -> f32 { return v; }
fn pack_at(v: f32, index: u32) -> f32 { return v; }
fn pack_indices(first: u32) -> u32 { return first; }
