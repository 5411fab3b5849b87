// What an adapter is, and a device of it with every limit and feature that is useful here.

/** Limits requested at the adapter's largest; the others stay at WebGPU's defaults. */
export const WANTED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxUniformBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

const WANTED_FEATURES = ["timestamp-query", "shader-f16"] as const;

/** What an adapter is called and whether it is software. */
export interface AdapterFacts {
  name: string;
  vendor: string;
  software: boolean;
}

/** The adapters' names of the software rasterizers in use: Mesa's llvmpipe and Google's SwiftShader. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|software/i;

/** Reads name and kind from an adapter. */
export function adapterFacts(adapter: GPUAdapter): AdapterFacts {
  const info = adapter.info;
  const name = info.description || info.device || info.vendor || "unnamed adapter";
  return { name, vendor: info.vendor, software: info.isFallbackAdapter || SOFTWARE.test(name) };
}

/** A device and its subgroups. */
export interface OpenedDevice {
  device: GPUDevice;
  /** Lanes per subgroup when the adapter guarantees exactly one size, else 0. */
  subgroupSize: number;
  /** The WGSL line a kernel with subgroup builtins must start with on this platform, often empty. */
  subgroupLine: string;
}

/** Requests all {@link WANTED_LIMITS} at the adapter's largest and the features it has. */
export async function requestAll(adapter: GPUAdapter): Promise<OpenedDevice> {
  const requiredLimits: Record<string, number> = {};
  for (const name of WANTED_LIMITS) requiredLimits[name] = adapter.limits[name];
  const base = WANTED_FEATURES.filter((f) => adapter.features.has(f)) as GPUFeatureName[];
  const device = await requestWithSubgroups(adapter, base, requiredLimits);
  const fixedSize = adapter.info.subgroupMinSize === adapter.info.subgroupMaxSize;
  const granted = device.features.has("subgroups" as GPUFeatureName);
  const subgroupSize = granted && fixedSize ? adapter.info.subgroupMinSize : 0;
  const subgroupLine = subgroupSize > 0 ? await subgroupPrefix(device) : "";
  return { device, subgroupSize, subgroupLine };
}

/** Deno grants subgroups without listing them among the adapter's features, so the only test is to ask. */
async function requestWithSubgroups(
  adapter: GPUAdapter,
  base: GPUFeatureName[],
  requiredLimits: Record<string, number>,
): Promise<GPUDevice> {
  const withSubgroups = [...base, "subgroups" as GPUFeatureName];
  try {
    return await adapter.requestDevice({ requiredFeatures: withSubgroups, requiredLimits });
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof DOMException)) throw cause;
    return await adapter.requestDevice({ requiredFeatures: base, requiredLimits });
  }
}

/** Browsers need the line `enable subgroups;`, Deno refuses it: returns what this platform wants. */
async function subgroupPrefix(device: GPUDevice): Promise<string> {
  const line = "enable subgroups;";
  device.pushErrorScope("validation");
  device.createShaderModule({ code: `${line} @compute @workgroup_size(1) fn main() {}` });
  return await device.popErrorScope() === null ? line : "";
}
