// The system setup works on, as a record: tests pass their own. And what is called what where: the command that
// installs each missing thing, per family of systems.

import { type RunQuietly, runQuietly } from "./python.ts";

/** What setup needs to know and do. */
export interface System {
  /** Runs a command to its end; undefined when there is no such program. */
  run: RunQuietly;
  /** `linux`, `darwin`, `windows`, … */
  os: string;
  /** True when packages may be installed. */
  root: boolean;
  /** The text of /etc/os-release, "" where there is none. */
  osRelease: string;
  exists(path: string): Promise<boolean>;
}

/** This system. Needs `--allow-read`, `--allow-sys=uid` and `--allow-run` for the commands. */
export async function thisSystem(): Promise<System> {
  const gone = (error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  };
  const { os } = Deno.build;
  return {
    run: runQuietly,
    os,
    root: os !== "windows" && Deno.uid() === 0,
    osRelease: os === "linux" ? await Deno.readTextFile("/etc/os-release").catch(gone) ?? "" : "",
    exists: async (path) => await Deno.stat(path).catch(gone) !== undefined,
  };
}

/** Families of systems with a package manager of their own. */
export type Family = "debian" | "fedora" | "arch" | "macos" | "windows" | "other";

/** The family of a system, from its name and those it says it is like. */
export function familyOf({ os, osRelease }: System): Family {
  if (os === "darwin") return "macos";
  if (os === "windows") return "windows";
  const line = (key: string) =>
    new RegExp(`^${key}=["']?([^"'\\n]*)`, "m").exec(osRelease)?.[1] ?? "";
  const names = `${line("ID")} ${line("ID_LIKE")}`.split(/\s+/);
  const has = (...known: string[]) => known.some((name) => names.includes(name));
  if (has("debian", "ubuntu")) return "debian";
  if (has("fedora", "rhel", "centos")) return "fedora";
  if (has("arch")) return "arch";
  return "other";
}

/** What may have to be installed. */
export type Need = "adapter" | "notebook" | "fonts" | "mpi";

const PACKAGES: Record<"debian" | "fedora" | "arch", Record<Need, string[]>> = {
  debian: {
    adapter: ["mesa-vulkan-drivers", "libvulkan1"],
    notebook: ["python3-nbclient"],
    fonts: ["fontconfig-config", "fonts-dejavu-core"],
    mpi: ["openmpi-bin", "libopenmpi3"],
  },
  fedora: {
    adapter: ["mesa-vulkan-drivers", "vulkan-loader"],
    notebook: ["python3-nbclient"],
    fonts: ["dejavu-sans-fonts"],
    mpi: ["openmpi"],
  },
  arch: {
    adapter: ["vulkan-swrast", "vulkan-icd-loader"],
    notebook: ["python-nbclient"],
    fonts: ["ttf-dejavu"],
    mpi: ["openmpi"],
  },
};

const INSTALL = {
  debian: "apt-get update && apt-get install -y --no-install-recommends",
  fedora: "dnf install -y",
  arch: "pacman -S --needed",
} as const;

const BY_HAND: Record<"macos" | "windows" | "other", Record<Need, string>> = {
  macos: {
    adapter: "update macOS (Metal comes with it)",
    notebook: "python3 -m pip install --user nbclient",
    fonts: "brew install --cask font-dejavu",
    mpi: "brew install open-mpi",
  },
  windows: {
    adapter: "update the graphics driver (Direct3D 12)",
    notebook: "run setup and the notebook test under WSL",
    fonts: "restore the default fonts in Settings › Fonts",
    mpi: "train on several machines under WSL",
  },
  other: {
    adapter: "install a Vulkan driver, for example Mesa's lavapipe",
    notebook: "python3 -m pip install --user nbclient",
    fonts: "install a sans-serif font, for example DejaVu Sans",
    mpi: "install Open MPI 4 or 5",
  },
};

/** The packages that bring what is needed on a system with a known package manager. */
export function packagesFor(family: Family, needs: readonly Need[]): string[] {
  if (family !== "debian" && family !== "fedora" && family !== "arch") return [];
  return needs.flatMap((need) => PACKAGES[family][need]);
}

/** The exact command to type, or the steps where there is no single command. */
export function installCommand(system: System, needs: readonly Need[]): string {
  const family = familyOf(system);
  if (family === "macos" || family === "windows" || family === "other") {
    return needs.map((need) => BY_HAND[family][need]).join("; ");
  }
  const command = `${INSTALL[family]} ${packagesFor(family, needs).join(" ")}`;
  if (system.root) return command;
  return command.split(" && ").map((part) => `sudo ${part}`).join(" && ");
}
