// What doctor says about the adapter: a list of facts, each with a name, for people and for programs.

import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import { deviceReport, type WantedLimit } from "../gpu/report.ts";
import { convVariant } from "../ops/conv2d_launch.ts";
import { chooseMatmul } from "../ops/matmul_config.ts";
import { describeMatmul } from "../ops/matmul_table.ts";

/** One line of the report. */
export interface Fact {
  name: string;
  text: string;
}

/** Makers by PCI number, for platforms that give only that; Mesa's own number stands for software. */
const VENDORS: Record<string, string> = {
  "4098": "AMD",
  "4318": "NVIDIA",
  "5045": "Arm",
  "5348": "Broadcom",
  "20803": "Qualcomm",
  "32902": "Intel",
  "65541": "Mesa",
};

const bytes = formatBytes;
const count = String;

/** Limits by what they mean here. */
const LIMITS: [name: WantedLimit, meaning: string, format: (n: number) => string][] = [
  ["maxBufferSize", "largest buffer", bytes],
  ["maxStorageBufferBindingSize", "largest binding", bytes],
  ["maxUniformBufferBindingSize", "largest params", bytes],
  ["maxStorageBuffersPerShaderStage", "buffers per kernel", count],
  ["maxComputeWorkgroupStorageSize", "workgroup memory", bytes],
  ["maxComputeInvocationsPerWorkgroup", "threads per workgroup", count],
  ["maxComputeWorkgroupSizeX", "  along x", count],
  ["maxComputeWorkgroupSizeY", "  along y", count],
  ["maxComputeWorkgroupSizeZ", "  along z", count],
  ["maxComputeWorkgroupsPerDimension", "workgroups per axis", count],
];

/** The facts about an open device, in the order they are printed. */
export function adapterFactsOf(gpu: Gpu): Fact[] {
  const report = deviceReport(gpu);
  const vendor = VENDORS[report.vendor] ?? report.vendor;
  return [
    { name: "adapter", text: report.name },
    { name: "kind", text: report.software ? "software: correct, but slow" : "hardware" },
    { name: "vendor", text: [vendor, report.architecture].filter(Boolean).join(" ") },
    { name: "features", text: report.features.join(", ") || "none" },
    { name: "timestamps", text: report.timestamps ? "yes: kernels can be timed" : "no" },
    { name: "f16", text: report.f16 ? "yes" : "no" },
    { name: "subgroups", text: subgroupText(gpu, report.subgroups) },
    ...matmulFacts(gpu),
    { name: "memory budget", text: bytes(report.budgetBytes) },
    ...LIMITS.map(([name, meaning, format]) => {
      const { granted, standard } = report.limits.find((l) => l.name === name)!;
      const beside = granted === standard ? "WebGPU's default" : `default ${format(standard)}`;
      return { name: meaning, text: `${format(granted)} (${beside})` };
    }),
  ];
}

/** Which tiles products go by, and why measurements that are there do not count. */
function matmulFacts(gpu: Gpu): Fact[] {
  const { origin, tiles, note } = describeMatmul(gpu);
  const named = Object.entries(tiles).map(([name, tile]) => `${name} ${tile}`).join(", ");
  const text = origin === "default"
    ? "default tiles of this kind; deno task doctor --tune measures them here"
    : `tuned here: ${named || "no tile was clearly faster than the default"}`;
  return [
    { name: "matmul", text },
    ...(note === undefined ? [] : [{ name: "  note", text: note }]),
  ];
}

/** Size of subgroups, and whether kernels make use of it here. */
function subgroupText(gpu: Gpu, { min, max }: { min: number; max: number }): string {
  if (max === 0) return "not granted";
  const size = min === max ? `${min} lanes` : `${min} to ${max} lanes`;
  const sizes = { rows: 512, columns: 512, inner: 512, transposeA: false, transposeB: false };
  const used = chooseMatmul(gpu, sizes).kernel === "subgroup" ||
    convVariant(gpu, 16) === "subgroup";
  return `${size}, ${used ? "used" : "not used: the default kernels are written for exactly 8"}`;
}
