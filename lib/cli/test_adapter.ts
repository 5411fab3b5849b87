// `deno task test:adapter`: the tests that run kernels, on another Vulkan driver than the one this machine takes by
// itself. A second driver finds what the first one forgives: other lanes, limits and compilers.

import { EXIT, InputError, ResourceError } from "../errors.ts";
import { type CommandSpec, type Context, runCommand } from "./command.ts";
import type { Flags } from "./flags.ts";
import { type RunQuietly, runQuietly } from "./python.ts";

const FLAGS = {
  only: {
    type: "list",
    unit: "PATHS",
    help: "tests to run instead, such as tests/ops/matmul_test.ts",
  },
} as const satisfies Flags;

/** Where Debian's chromium and Google's Chrome keep SwiftShader's description for the Vulkan loader. */
export const SWIFTSHADER = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
] as const;

/** The tests that run kernels. */
export const KERNEL_TESTS = [
  "tests/kernels_test.ts",
  "tests/gpu",
  "tests/ops",
  "tests/parity/families_test.ts",
  "tests/train",
] as const;

/** What the tests may do, as in `deno task test`. */
const TEST_FLAGS = [
  "--no-prompt",
  "--allow-read",
  "--allow-write=/tmp,.",
  "--allow-ffi=node_modules",
  "--allow-sys=cpus,uid",
  "--allow-env",
];

const ROOT = new URL("../../", import.meta.url).pathname;

/** The command as it is typed. */
export const TEST_ADAPTER = {
  name: "test:adapter",
  purpose: "Runs the tests of the kernels on another Vulkan driver.",
  usage: "[ICD.json] [flags]",
  flags: FLAGS,
  positionals: { min: 0, max: 1, names: ["the driver's JSON file"] },
  examples: [
    ["deno task test:adapter", "on SwiftShader, where chromium has brought it"],
    ["deno task test:adapter ICD.json --only tests/gpu", "some tests on any driver"],
  ],
  exitCodes: {
    1: "a test failed",
    3: "the driver's file is missing or is none",
    4: "the driver was not taken: there is none, or the tests would run on the usual adapter",
  },
} as const satisfies CommandSpec<typeof FLAGS>;

/** What the command needs from the system. */
export interface AdapterWorld {
  run: RunQuietly;
  /** The text of a file, undefined if it is not there. */
  read(path: string): Promise<string | undefined>;
  /** Runs the tests with their output on this process's; gives the exit code. */
  test(args: string[], env: Record<string, string>): Promise<number>;
}

/** The file that describes the driver: the one given, or SwiftShader's. */
export async function driverFile(world: AdapterWorld, given: string | undefined): Promise<string> {
  for (const path of given === undefined ? SWIFTSHADER : [given]) {
    const text = await world.read(path);
    if (text === undefined) continue;
    if (!/"library_path"\s*:/.test(text)) {
      throw new InputError(`Cannot use ${path} as a Vulkan driver: it names no library_path`, {
        help: "the loader's files lie in /usr/share/vulkan/icd.d",
      });
    }
    return path;
  }
  const help =
    "apt-get install chromium brings SwiftShader; or unpack chromium-common with dpkg-deb -x " +
    "and name its vk_swiftshader_icd.json";
  if (given === undefined) {
    throw new InputError("Cannot find SwiftShader on this machine", { help });
  }
  throw new InputError(`Cannot find the driver's file ${given}`, { help });
}

/** What makes the Vulkan loader take this driver and no other, in its old and its new form. */
export function driverEnv(path: string): Record<string, string> {
  const absolute = path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
  return { VK_ICD_FILENAMES: absolute, VK_DRIVER_FILES: absolute };
}

/** Names of the adapters that a process gets by itself and with a driver's environment. */
async function adapterName(
  world: AdapterWorld,
  env: Record<string, string>,
): Promise<{ name?: string; error?: string }> {
  const probe = ["run", "--quiet", "--no-prompt", `${ROOT}lib/cli/probe_adapter.ts`];
  const result = await world.run("deno", probe, env);
  const line = result?.stdout.trim().split("\n").at(-1) ?? "";
  if (!line.startsWith("{")) return { error: "the probe said nothing" };
  return JSON.parse(line);
}

/** Runs the tests on the other driver, if that is what answers. */
export async function testAdapter(
  context: Context<typeof FLAGS>,
  world: AdapterWorld = thisWorld(),
): Promise<number> {
  const path = await driverFile(world, context.args[0]);
  const env = driverEnv(path);
  const usual = await adapterName(world, {});
  const other = await adapterName(world, env);
  if (other.name === undefined) {
    throw new ResourceError(`Cannot open the adapter of ${path}: ${other.error}`);
  }
  if (other.name === usual.name) {
    throw new ResourceError(
      `Cannot test another adapter: with ${path} it is still ${other.name}`,
      {
        help: "a driver that cannot be loaded is passed over: check the library_path in that file",
      },
    );
  }
  context.print(`adapter: ${other.name} (usually ${usual.name ?? "none"})`);
  context.emit({ event: "adapter", name: other.name, usual: usual.name ?? null, driver: path });
  const code = await world.test(
    ["test", ...TEST_FLAGS, ...context.flags.only ?? KERNEL_TESTS],
    env,
  );
  context.print(`${code === 0 ? "ok" : "FAIL"} on ${other.name}`);
  context.emit({ event: "tests", adapter: other.name, ok: code === 0 });
  return code === 0 ? EXIT.done : EXIT.fault;
}

function thisWorld(): AdapterWorld {
  return {
    run: runQuietly,
    read: async (path) => {
      try {
        return await Deno.readTextFile(path);
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return undefined;
        throw error;
      }
    },
    test: async (args, env) => {
      const child = new Deno.Command("deno", { args, env, cwd: ROOT, stdin: "null" }).spawn();
      return (await child.status).code;
    },
  };
}

if (import.meta.main) await runCommand(TEST_ADAPTER, testAdapter);
