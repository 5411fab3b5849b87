// WGSL text → bindings, params and knobs read from it → pipelines cached per device and knobs → dispatch.
// Everything is matched by the names the WGSL file declares. Software adapters load texels several times faster than
// storage: there, a variant of the kernel reads copies of its buffers as textures (see texel_loads.ts).

import { type GpuBuffer, rootOf } from "./buffers.ts";
import { buildFault } from "./build_fault.ts";
import { type Declared, type Field, readBindings, readFields } from "./declarations.ts";
import type { Gpu } from "./device.ts";
import { readTexels } from "./texel_loads.ts";
import type { Work } from "./timings.ts";
import { workOf } from "./work.ts";

/** A buffer, or a range of one (offset a multiple of 256 bytes). */
export type Binding = GpuBuffer | { buffer: GpuBuffer; offset: number; sizeBytes: number };

/** Text and choices of a kernel. */
export interface KernelSource<Knob extends string> {
  /** The WGSL with the entry point `main`. */
  main: string;
  /** WGSL parts joined behind it: functions, no bindings. */
  parts?: readonly string[];
  /** Names of `override`, `const` and `alias` declarations that callers may set. */
  knobs?: readonly Knob[];
  /** True if it uses subgroup builtins. */
  subgroups?: boolean;
  /** False if it reads little of what it binds, so that copying that to texels would cost more than it saves. */
  texels?: boolean;
  /** Buffers it updates in place: every value is read only by the invocation that writes it, and before that. */
  inPlace?: readonly string[];
}

/** One launch. */
export interface Launch<Knob extends string> {
  buffers: Record<string, Binding>;
  params?: Record<string, number>;
  knobs?: { readonly [K in Knob]?: number | string };
  /** Replaces the kernel's parts: how variants are chosen. */
  parts?: readonly string[];
  /** False if this launch reads little of what it binds: see {@link KernelSource.texels}. */
  texels?: boolean;
  /** Workgroups along x, y, z. */
  grid: readonly number[];
  /** For the profile: arithmetic, and bytes where they are not those of all it binds. */
  work?: Work;
}

interface Built {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
  /** Bindings as this variant declares them. */
  declared: readonly Declared[];
  id: number;
}

/** Per device: pipelines by kernel, knobs and parts; bind groups by what they bind. */
interface DeviceCache {
  pipelines: Map<string, Built>;
  groups: Map<string, GPUBindGroup>;
  /** The pool's `trims` when `groups` was last emptied. */
  trims: number;
  nextId: number;
}

const MAX_GROUPS_KEPT = 8192;
/** Below so many bytes read, copying to texels costs more than slow loads. */
const FEW_BYTES = 16384;
const OFFSET_STEP = 256; // bytes: what every adapter allows
const caches = new WeakMap<Gpu, DeviceCache>();
const partIds = new Map<string, number>();

/** What a kernel is made of, for checks that go over all of them. */
export interface LoadedKernel {
  readonly name: string;
  readonly main: string;
  /** The parts it takes when a launch names none. */
  readonly parts: readonly string[];
  readonly subgroups: boolean;
  /** Compiles it with its defaults. */
  prepare(gpu: Gpu): void;
}

const loaded: LoadedKernel[] = [];

/** Every kernel made so far in this process. */
export function loadedKernels(): readonly LoadedKernel[] {
  return loaded;
}

/** Workgroups on one axis of a dispatch, at most; larger grids are folded onto y by {@link foldGrid}. */
export const MAX_GROUPS = 65535;

/**
 * Folds a one-dimensional grid of any size onto two axes. The kernel recovers its index as
 * `group.y * groups.x + group.x` and checks it against its bound.
 */
export function foldGrid(groups: number): [number, number] {
  if (groups <= MAX_GROUPS) return [Math.max(groups, 1), 1];
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y];
}

/** A compute kernel: one WGSL entry point with named buffers, params and knobs. */
export class Kernel<Knob extends string = never> {
  readonly name: string;
  readonly #source: KernelSource<Knob>;
  readonly #declared: Declared[];
  readonly #fields: Field[];
  readonly #read: Declared[];
  readonly #written: Declared[];

  /** @throws {TypeError} If a knob is not declared in the WGSL */
  constructor(name: string, source: KernelSource<Knob>) {
    this.name = name;
    this.#source = source;
    this.#declared = readBindings(source.main);
    this.#fields = readFields(source.main);
    this.#read = this.#declared.filter(({ type }) => type === "read-only-storage");
    this.#written = this.#declared.filter(({ type }) => type === "storage");
    for (const knob of source.knobs ?? []) {
      if (!knobPattern(knob).test(source.main)) {
        throw new TypeError(
          `Cannot load kernel "${name}": kernels/${name}.wgsl declares no knob ${knob}`,
        );
      }
    }
    const { main, parts = [], subgroups = false } = source;
    loaded.push({ name, main, parts, subgroups, prepare: (gpu) => this.prepare(gpu) });
  }

  /** Names of the buffers it binds, in order. */
  get bindings(): readonly string[] {
    return this.#declared.map((d) => d.name);
  }

  /** Compiles ahead of the first launch. */
  prepare(gpu: Gpu, knobs: Launch<Knob>["knobs"] = {}, parts?: readonly string[]): void {
    const texels = gpu.readsTexels && this.#source.texels !== false;
    const given = knobs as Record<string, number | string>;
    this.#build(gpu, given, parts ?? this.#source.parts ?? [], texels);
  }

  /** @throws {TypeError} If a buffer or param the WGSL declares is missing */
  run(gpu: Gpu, launch: Launch<Knob>): void {
    const knobs = (launch.knobs ?? {}) as Record<string, number | string>;
    const parts = launch.parts ?? this.#source.parts ?? [];
    const built = this.#build(gpu, knobs, parts, this.#wantsTexels(gpu, launch));
    const most = gpu.limits.maxComputeWorkgroupsPerDimension;
    if (launch.grid.some((groups) => !(groups <= most))) {
      throw new RangeError(
        `internal: kernel "${this.name}" is launched on (${launch.grid.join(", ")}) workgroups, ` +
          `an axis holds ${most}`,
      );
    }
    if (gpu.params.full) gpu.flush();
    try {
      const group = this.#bind(gpu, built, launch);
      this.#refuseSharing(launch.buffers);
      const offset = this.#fields.length > 0
        ? this.#putParams(gpu, launch.params ?? {})
        : undefined;
      gpu.dispatch(built.pipeline, group, offset, launch.grid, this.name, this.#work(gpu, launch));
    } finally {
      gpu.buffers.texels.release();
    }
    for (const { name } of this.#written) rootOf(bufferOf(launch.buffers[name])).version++;
  }

  /** Whether the variant that reads texels is worth its copies. */
  #wantsTexels(gpu: Gpu, { buffers, texels }: Launch<Knob>): boolean {
    if (!gpu.readsTexels || (texels ?? this.#source.texels) === false) return false;
    const most = gpu.buffers.texels.mostBytes;
    let bytes = 0;
    for (const { name } of this.#read) {
      const size = buffers[name] ? bytesOf(buffers[name]) : 0;
      if (size > most) return false;
      bytes += size;
    }
    return bytes >= FEW_BYTES;
  }

  #bind(gpu: Gpu, built: Built, launch: Launch<Knob>): GPUBindGroup {
    let key = `${built.id}`;
    const entries = built.declared.map(({ name, index, type, of }): GPUBindGroupEntry => {
      if (type === "uniform") {
        return { binding: index, resource: { buffer: gpu.params.buffer, size: this.#paramBytes } };
      }
      const given = launch.buffers[of ?? name];
      if (!given) {
        const names = built.declared.map((d) => d.name).join(", ");
        throw new TypeError(
          `Cannot run kernel "${this.name}": no buffer for "${name}" (it binds ${names})`,
        );
      }
      const sizeBytes = bytesOf(given);
      if (sizeBytes > gpu.maxBindingBytes) {
        throw new TypeError(
          `internal: kernel "${this.name}" binds ${sizeBytes} bytes as "${name}", ` +
            `the adapter allows ${gpu.maxBindingBytes}: split the launch`,
        );
      }
      const buffer = bufferOf(given);
      const root = rootOf(buffer);
      const offset = buffer.offset + ("raw" in given ? 0 : given.offset);
      if (type === "texels") {
        const texels = gpu.buffers.texels.of(root, offset, sizeBytes);
        key += ` t${texels.id}`;
        return { binding: index, resource: texels.view };
      }
      if (offset % OFFSET_STEP !== 0) {
        throw new TypeError(
          `internal: kernel "${this.name}" binds "${name}" from byte ${offset}, ` +
            `no multiple of ${OFFSET_STEP}`,
        );
      }
      key += ` ${root.id}+${offset}:${sizeBytes}`;
      return { binding: index, resource: { buffer: buffer.raw, offset, size: sizeBytes } };
    });
    const cache = cacheOf(gpu);
    if (cache.trims !== gpu.buffers.trims || cache.groups.size >= MAX_GROUPS_KEPT) {
      cache.groups.clear(); // they would keep destroyed buffers
      cache.trims = gpu.buffers.trims;
    }
    let group = cache.groups.get(key);
    if (!group) {
      const { layout } = built;
      group = gpu.device.createBindGroup({ label: this.name, layout, entries });
      cache.groups.set(key, group);
    }
    return group;
  }

  #work(gpu: Gpu, { buffers, work }: Launch<Knob>): Work | undefined {
    if (!gpu.profile) return work;
    const bound = this.#declared.filter(({ type }) => type !== "uniform");
    return workOf(bound.map(({ name }) => buffers[name]), work);
  }

  /** WebGPU would drop the whole batch; here the kernel has a name. */
  #refuseSharing(buffers: Record<string, Binding>): void {
    for (const written of this.#written) {
      const into = rootOf(bufferOf(buffers[written.name]));
      const read = this.#read.find(({ name }) => rootOf(bufferOf(buffers[name])) === into);
      if (read) {
        throw new TypeError(
          `internal: kernel "${this.name}" writes "${written.name}" into the buffer it reads as ` +
            `"${read.name}"`,
        );
      }
    }
  }

  #build(
    gpu: Gpu,
    knobs: Record<string, number | string>,
    parts: readonly string[],
    texels: boolean,
  ): Built {
    const cache = cacheOf(gpu);
    let key = `${partId(this.#source.main)}${texels ? "t" : ""}`;
    for (const name in knobs) key += `|${name}=${knobs[name]}`;
    for (const part of parts) key += `|${partId(part)}`;
    const known = cache.pipelines.get(key);
    if (known) return known;
    const used = this.#read.length + this.#written.length;
    const most = gpu.limits.maxStorageBuffersPerShaderStage;
    if (used > most) {
      throw new TypeError(
        `internal: kernel "${this.name}" binds ${used} buffers, the adapter allows ${most}`,
      );
    }
    const { code, constants, declared } = this.#specialize(gpu, knobs, parts, texels);
    gpu.device.pushErrorScope("validation");
    let scope: Promise<GPUError | null>;
    let built: Built & { module: GPUShaderModule };
    try {
      built = { ...this.#compile(gpu, code, constants, declared), declared, id: cache.nextId++ };
    } finally {
      scope = gpu.device.popErrorScope();
    }
    const files = [this.#source.main, ...parts];
    gpu.watch(buildFault(this.name, built.module, scope, files));
    cache.pipelines.set(key, built);
    return built;
  }

  #compile(
    gpu: Gpu,
    code: string,
    constants: Record<string, number>,
    declared: readonly Declared[],
  ) {
    const module = gpu.device.createShaderModule({ label: this.name, code });
    const layout = gpu.device.createBindGroupLayout({
      label: this.name,
      entries: declared.map(({ index, type }) => ({
        binding: index,
        visibility: GPUShaderStage.COMPUTE,
        ...(type === "texels"
          ? { texture: { sampleType: "uint" as const } }
          : type === "uniform"
          ? { buffer: { type, hasDynamicOffset: true, minBindingSize: this.#paramBytes } }
          : { buffer: { type } }),
      })),
    });
    const pipeline = gpu.device.createComputePipeline({
      label: this.name,
      layout: gpu.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main", constants },
    });
    return { pipeline, layout, module };
  }

  #specialize(
    gpu: Gpu,
    knobs: Record<string, number | string>,
    parts: readonly string[],
    texels: boolean,
  ) {
    let { main } = this.#source;
    let enable = this.#source.subgroups ? gpu.subgroupLine : "";
    const constants: Record<string, number> = {};
    for (const [name, value] of Object.entries(knobs)) {
      const found = knobPattern(name).exec(main);
      if (!found) {
        const names = (this.#source.knobs ?? []).join(", ") || "none";
        throw new TypeError(
          `Cannot run kernel "${this.name}": no knob "${name}" (it has ${names})`,
        );
      }
      if (found[1] === "override") constants[name] = Number(value);
      else main = main.replace(found[0], `${found[1]} ${name}${found[2]}= ${value};`);
      if (value === "f16") enable += "enable f16;";
    }
    if (!texels) {
      return { code: [enable + main, ...parts].join("\n"), constants, declared: this.#declared };
    }
    const { files, loads, declared } = readTexels(
      main,
      parts,
      this.#declared,
      this.#source.inPlace,
    );
    return { code: enable + [...files, loads].join("\n"), constants, declared };
  }

  /** Where the launch's params stand in the batch's. */
  #putParams(gpu: Gpu, params: Record<string, number>): number {
    return gpu.params.put((view) => {
      this.#fields.forEach(({ name, type }, i) => {
        const value = params[name];
        if (value === undefined) {
          const names = this.#fields.map((f) => f.name).join(", ");
          throw new TypeError(
            `Cannot run kernel "${this.name}": no param "${name}" (it takes ${names})`,
          );
        }
        if (type !== "f32" && !fits(value, type)) {
          throw new RangeError(
            `internal: kernel "${this.name}" takes a ${type} "${name}", not ${value}`,
          );
        }
        if (type === "f32") view.setFloat32(4 * i, value, true);
        else if (type === "i32") view.setInt32(4 * i, value, true);
        else view.setUint32(4 * i, value, true);
      });
    });
  }

  /** Bytes of its `Params`. */
  get #paramBytes(): number {
    return 16 * Math.ceil(this.#fields.length / 4);
  }
}

function cacheOf(gpu: Gpu): DeviceCache {
  let cache = caches.get(gpu);
  if (cache) return cache;
  cache = { pipelines: new Map(), groups: new Map(), trims: 0, nextId: 0 };
  caches.set(gpu, cache);
  return cache;
}

function bytesOf(binding: Binding): number {
  return "raw" in binding ? binding.heldBytes : binding.sizeBytes;
}

function bufferOf(binding: Binding): GpuBuffer {
  return "raw" in binding ? binding : binding.buffer;
}

function partId(part: string): number {
  let id = partIds.get(part);
  if (id === undefined) partIds.set(part, id = partIds.size);
  return id;
}

function fits(value: number, type: "u32" | "i32"): boolean {
  const [low, high] = type === "u32" ? [0, 2 ** 32] : [-(2 ** 31), 2 ** 31];
  return Number.isInteger(value) && value >= low && value < high;
}

function knobPattern(name: string): RegExp {
  return new RegExp(`(override|const|alias)\\s+${name}\\b([^=;]*)=\\s*([^;]+);`);
}
