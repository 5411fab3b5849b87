// What an open device is and grants, as a plain record for people to read.

import { WANTED_LIMITS } from "./adapter.ts";
import type { Gpu } from "./device.ts";

/** A limit that is requested from the adapter. */
export type WantedLimit = (typeof WANTED_LIMITS)[number];

/** WebGPU's default limits (W3C WebGPU, §3.6.2): what a device has when nothing is requested. */
const DEFAULTS: Record<WantedLimit, number> = {
  maxBufferSize: 2 ** 28,
  maxStorageBufferBindingSize: 2 ** 27,
  maxStorageBuffersPerShaderStage: 8,
  maxUniformBufferBindingSize: 2 ** 16,
  maxComputeWorkgroupStorageSize: 2 ** 14,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupSizeZ: 64,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** Facts about an open device. */
export interface DeviceReport {
  /** What the adapter calls itself; with Vulkan this is where a driver's version stands. */
  name: string;
  /** Its maker: a name, or the decimal PCI number where the platform gives no name. */
  vendor: string;
  architecture: string;
  software: boolean;
  /** Features granted, sorted. */
  features: string[];
  timestamps: boolean;
  /** Whether kernels may compute in 16-bit floats. */
  f16: boolean;
  /** Lanes per subgroup at least and at most; zeros where subgroups were not granted. */
  subgroups: { min: number; max: number };
  /** Limits in use beside WebGPU's defaults. */
  limits: { name: WantedLimit; granted: number; standard: number }[];
  /** Device memory this process allows itself, in bytes. */
  budgetBytes: number;
}

/** Describes an open device. */
export function deviceReport(gpu: Gpu): DeviceReport {
  const { features, limits, adapterInfo } = gpu.device;
  const granted = [...features].map(String).sort();
  const subgroups = granted.includes("subgroups")
    ? { min: adapterInfo.subgroupMinSize, max: adapterInfo.subgroupMaxSize }
    : { min: 0, max: 0 };
  return {
    name: gpu.adapter.name,
    vendor: gpu.adapter.vendor,
    architecture: adapterInfo.architecture,
    software: gpu.adapter.software,
    features: granted,
    timestamps: granted.includes("timestamp-query"),
    f16: granted.includes("shader-f16"),
    subgroups,
    limits: WANTED_LIMITS.map((name) => ({
      name,
      granted: limits[name],
      standard: DEFAULTS[name],
    })),
    budgetBytes: gpu.buffers.budgetBytes,
  };
}
