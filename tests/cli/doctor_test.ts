import assert from "node:assert/strict";
import { runCommand } from "../../lib/cli/command.ts";
import { DOCTOR, doctor } from "../../lib/cli/doctor.ts";
import { installedKernel } from "../../lib/cli/doctor_notebook.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

/** Runs the command against a shell of strings. */
async function run(...args: string[]) {
  const seen = { stdout: "", stderr: "", code: -1 };
  await runCommand(DOCTOR, doctor, {
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

Deno.test(
  "doctor prints what the adapter grants beside what WebGPU promises",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const { stdout, stderr, code } = await run("--only", "adapter");
    assert.deepEqual([stderr, code], ["", 0]);
    const facts = new Map(
      stdout.trim().split("\n").map((line) => {
        return [line.slice(0, 27).trim(), line.slice(27).trim()];
      }),
    );
    assert.equal(facts.get("adapter"), gpu.adapter.name);
    assert.equal(facts.get("kind")?.startsWith("software"), gpu.adapter.software);
    assert.equal(facts.get("memory budget"), "4.00 GiB");
    assert.match(facts.get("largest binding")!, /^[\d.]+ .?i?B \(.*\)$/);
    const lanes = gpu.subgroupSize === 8 && gpu.adapter.software ? /^8 lanes, used$/ : /not|used/;
    assert.match(facts.get("subgroups")!, lanes);
  },
);

Deno.test("doctor checks kernels in JSON, one object per family", GPU_TEST, async () => {
  const { stdout, code } = await run("--only", "kernels", "--json");
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(events.filter((e) => e.event === "check"), []);
  const items = events.filter((e) => e.event === "item");
  assert.ok(items.length > 10 && items.every((e) => e.ok && e.part === "kernels"), stdout);
  assert.equal(events.at(-1).event, "done");
  assert.equal(code, 0);
});

const software = (await testGpu()).adapter.software;

Deno.test({
  name: "doctor ends with 4 and the repair without an adapter of the kind asked for" +
    (software ? "" : " (skipped: this machine has a GPU)"),
  ignore: !software,
  ...GPU_TEST,
  fn: async () => {
    const { stdout, code } = await run("--only", "adapter,kernels", "--adapter", "gpu");
    assert.match(stdout, /^FAIL adapter +Cannot open a GPU: the only adapter is software/);
    assert.match(stdout, /\nrepair: install the graphics driver, or use --adapter any\n$/);
    assert.equal(code, 4);
  },
});

Deno.test("doctor refuses a part it does not know", async () => {
  const { stderr, code } = await run("--only", "kernel");
  assert.match(stderr, /^error: Cannot .*kernel/);
  assert.equal(code, 2);
});

Deno.test("installedKernel() reads Jupyter's list, or says why it cannot", async () => {
  const system = (answer: { code: number; stdout: string; stderr: string }) => {
    return (_: string, args: readonly string[]) => {
      const asksForModules = args[1].includes("find_spec");
      return Promise.resolve(asksForModules ? { code: 0, stdout: "", stderr: "" } : answer);
    };
  };
  const found = { code: 0, stdout: `{"deno": "/bin/deno", "python3": "python"}`, stderr: "" };
  assert.equal(await installedKernel(system(found)), "installed, runs /bin/deno");
  const other = { ...found, stdout: `{"python3": "python"}` };
  assert.match(
    (await installedKernel(system(other)))!,
    /^not installed; .*deno jupyter --install$/,
  );
  const broken = { code: 1, stdout: "", stderr: "Traceback\nImportError: zmq\n" };
  assert.equal(await installedKernel(system(broken)), "cannot be looked up: ImportError: zmq");
  assert.equal(await installedKernel(() => Promise.resolve(undefined)), undefined);
});
