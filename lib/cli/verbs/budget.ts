// How much device memory a verb may take when nobody says: one rule for every command that opens a model.

import type { AdapterFacts } from "../../gpu/adapter.ts";
import type { Gpu, GpuOptions } from "../../gpu/device.ts";
import type { VerbWorld } from "./world.ts";

/** Bytes on a hardware adapter, whose memory WebGPU does not tell. */
export const GPU_BUDGET = 6e9;

/** Share of the machine's memory on a software adapter, which has no other. */
export const SOFTWARE_SHARE = 0.6;

/** The default budget: on a software adapter {@link SOFTWARE_SHARE} of memory, else {@link GPU_BUDGET}. */
export function defaultBudget(adapter: Pick<AdapterFacts, "software">, memoryBytes: number) {
  return adapter.software ? Math.floor(SOFTWARE_SHARE * memoryBytes) : GPU_BUDGET;
}

/**
 * Opens a device with a budget, the default one where none is given. What the adapter is shows only when it is
 * open, so a software adapter is opened a second time (about 0.1 s).
 *
 * @throws {ResourceError} If there is no adapter of that kind, or none to profile on
 */
export async function openWithin(
  world: Pick<VerbWorld, "openGpu" | "closeGpu" | "memoryBytes">,
  { budget, ...options }: Pick<GpuOptions, "adapter" | "profile"> & { budget?: number | undefined },
): Promise<Gpu> {
  const gpu = await world.openGpu({ ...options, budgetBytes: budget ?? GPU_BUDGET });
  if (budget !== undefined || !gpu.adapter.software) return gpu;
  world.closeGpu(gpu);
  return await world.openGpu({
    ...options,
    budgetBytes: defaultBudget(gpu.adapter, world.memoryBytes()),
  });
}
