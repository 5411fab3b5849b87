// What a launch moves, for the profile: the bytes of all it binds, unless the launch knows better.

import type { GpuBuffer } from "./buffers.ts";
import type { Work } from "./timings.ts";

type Bound = GpuBuffer | { buffer: GpuBuffer; offset: number; sizeBytes: number };

/**
 * The work of a launch. Bytes that it does not name are those of its distinct bindings, each counted once: a bias that
 * is bound for want of one, or the same tensor under two names, adds nothing. Of a whole buffer only the bytes asked
 * for count, not those of its size class.
 */
export function workOf(bound: readonly Bound[], given: Work = {}): Work {
  if (given.bytes !== undefined) return given;
  const seen = new Set<string>();
  let bytes = 0;
  for (const binding of bound) {
    const range = "raw" in binding
      ? { buffer: binding, offset: 0, sizeBytes: binding.usedBytes }
      : binding;
    const key = `${range.buffer.id} ${range.offset} ${range.sizeBytes}`;
    if (seen.has(key)) continue;
    seen.add(key);
    bytes += range.sizeBytes;
  }
  return { ...given, bytes };
}
