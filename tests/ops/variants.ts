// The two shapes of row kernels, on one adapter: one thread per row as on software, and several threads
// per row as on a GPU.

import { Gpu } from "../../lib/gpu/device.ts";
import { testGpu } from "../helpers.ts";

let asGpu: Gpu | undefined;

/** The test device as it is, and the same device treated as the other kind of adapter. */
export async function bothKinds(): Promise<Gpu[]> {
  const gpu = await testGpu();
  const facts = { ...gpu.adapter, software: !gpu.adapter.software };
  asGpu ??= new Gpu(gpu.device, facts, gpu.subgroupSize, gpu.subgroupLine, {});
  return [gpu, asGpu];
}

/** A device that allows bindings of no more than `bytes`, so that small tensors need several launches. */
export async function narrowGpu(bytes: number): Promise<Gpu> {
  const gpu = await testGpu();
  class Narrow extends Gpu {
    override get maxBindingBytes(): number {
      return bytes;
    }
  }
  return new Narrow(gpu.device, gpu.adapter, gpu.subgroupSize, gpu.subgroupLine, {});
}
