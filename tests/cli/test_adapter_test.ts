import assert from "node:assert/strict";
import { runCommand } from "../../lib/cli/command.ts";
import {
  type AdapterWorld,
  driverEnv,
  SWIFTSHADER,
  TEST_ADAPTER,
  testAdapter,
} from "../../lib/cli/test_adapter.ts";
import { sourceFiles } from "../source_files.ts";

const ICD = `{"ICD": {"library_path": "./libvk.so"}}`;

/** A machine with these files and adapters. */
function machine(files: Record<string, string>, usual: object, other: object) {
  const tests: { args: string[]; env: Record<string, string> }[] = [];
  const world: AdapterWorld = {
    read: (path) => Promise.resolve(files[path]),
    run: (_, __, env = {}) => {
      const stdout = JSON.stringify("VK_DRIVER_FILES" in env ? other : usual);
      return Promise.resolve({ code: 0, stdout, stderr: "" });
    },
    test: (args, env) => {
      tests.push({ args, env });
      return Promise.resolve(args.includes("bad") ? 1 : 0);
    },
  };
  return { world, tests };
}

async function run(world: AdapterWorld, ...args: string[]) {
  const seen = { stdout: "", stderr: "", code: -1 };
  await runCommand(TEST_ADAPTER, (context) => testAdapter(context, world), {
    args,
    stdout: (text) => void (seen.stdout += text),
    stderr: (text) => void (seen.stderr += text),
    terminal: false,
    noColor: true,
    exit: (code) => void (seen.code = code),
    onSignal: () => {},
    onStray: () => {},
  });
  return seen;
}

Deno.test("test:adapter runs the kernel tests on SwiftShader and names the adapter", async () => {
  const { world, tests } = machine({ [SWIFTSHADER[0]]: ICD }, { name: "llvm" }, { name: "Swift" });
  const { stdout, code } = await run(world);
  assert.equal(stdout, "adapter: Swift (usually llvm)\nok on Swift\n");
  assert.equal(code, 0);
  assert.deepEqual(tests[0].env, driverEnv(SWIFTSHADER[0]));
  const paths = tests[0].args.filter((arg) => arg.startsWith("tests/"));
  assert.ok(paths.length > 3);
  const all = await sourceFiles("tests");
  for (const path of paths) {
    assert.ok(all.some((file) => file.path.startsWith(path)), `${path} is not there`);
  }
});

Deno.test("test:adapter takes a driver and tests by name, and fails when they do", async () => {
  const { world, tests } = machine({ "/a.json": ICD }, { error: "none" }, { name: "Swift" });
  const { stdout, code } = await run(world, "/a.json", "--only", "bad");
  assert.equal(stdout, "adapter: Swift (usually none)\nFAIL on Swift\n");
  assert.equal(code, 1);
  assert.equal(tests[0].args.at(-1), "bad");
});

Deno.test("test:adapter refuses to pass on the usual adapter", async () => {
  const { world, tests } = machine({ "/a.json": ICD }, { name: "llvm" }, { name: "llvm" });
  const { stderr, code } = await run(world, "/a.json");
  assert.match(
    stderr,
    /^error: Cannot test another adapter: with \/a\.json it is still llvm\nhelp: /,
  );
  assert.deepEqual([code, tests], [4, []]);
});

Deno.test("test:adapter says what is wrong with a driver and how to get one", async () => {
  const { world } = machine({ "/b.json": "{}" }, { name: "llvm" }, { error: "no adapter" });
  const missing = await run(world);
  assert.match(
    missing.stderr,
    /^error: Cannot find SwiftShader .*\nhelp: apt-get install chromium/,
  );
  assert.equal(missing.code, 3);
  assert.match(
    (await run(world, "/c.json")).stderr,
    /^error: Cannot find the driver's file \/c\.json/,
  );
  const none = await run(world, "/b.json");
  assert.match(
    none.stderr,
    /^error: Cannot use \/b\.json as a Vulkan driver: it names no library_path/,
  );
  const dead = machine({ "/a.json": ICD }, { name: "llvm" }, { error: "no adapter" });
  const { stderr, code } = await run(dead.world, "/a.json");
  assert.match(stderr, /^error: Cannot open the adapter of \/a\.json: no adapter/);
  assert.equal(code, 4);
});
