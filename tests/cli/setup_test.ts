// Setup against made-up systems: what is installed, what is only said. That the real looks work is tested on this
// machine at the end; installing was tried in a container without the packages.

import assert from "node:assert/strict";
import { findPython } from "../../lib/cli/python.ts";
import { look, setUp, SetupIncomplete } from "../../lib/cli/setup.ts";
import { familyOf, installCommand, type System, thisSystem } from "../../lib/cli/system.ts";
import { ResourceError } from "../../lib/errors.ts";

const DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n';
const DENO = "2.9.6";

interface Machine {
  vulkan: boolean;
  opengl: boolean;
  packages: boolean;
  fonts: boolean;
  python: boolean;
  mpi: boolean;
  aptFails: boolean;
  npmFails: boolean;
}

/** A machine that has what is asked for and changes when something is installed. */
function machine(has: Partial<Machine>, system: Partial<System> = {}) {
  const state: Machine = {
    vulkan: true,
    opengl: false,
    packages: true,
    fonts: true,
    python: true,
    mpi: true,
    aptFails: false,
    npmFails: false,
    ...has,
  };
  const installs: string[] = [];
  const answer = (value: object) => ({ code: 0, stdout: JSON.stringify(value) + "\n", stderr: "" });
  const fail = (stderr: string) => ({ code: 1, stdout: "", stderr });
  const run: System["run"] = (command, args, env) => {
    const line = args.join(" ");
    if (command === "/usr/bin/apt-get") {
      installs.push(line.replace(/^.*Timeout=60 /, ""));
      assert.equal(env?.DEBIAN_FRONTEND, "noninteractive");
      if (state.aptFails) return Promise.resolve(fail("W: slow\nE: Unable to locate package x\n"));
      if (line.includes("mesa-vulkan-drivers")) state.vulkan = true;
      if (line.includes("fonts-dejavu-core")) state.fonts = true;
      if (line.includes("python3-nbclient")) state.python = true;
      if (line.includes("openmpi-bin")) state.mpi = true;
      return Promise.resolve({ code: 0, stdout: "", stderr: "" });
    }
    if (command === "deno" && args[0] === "install") {
      installs.push("deno install");
      if (state.npmFails) return Promise.resolve(fail("error: no network\n"));
      state.packages = true;
      return Promise.resolve({ code: 0, stdout: "", stderr: "" });
    }
    if (line.includes("probe_adapter.ts")) {
      const facts = { name: "llvmpipe", vendor: "x", software: true };
      if (state.vulkan) return Promise.resolve(answer({ ...facts, subgroupSize: 8 }));
      if (state.opengl) return Promise.resolve(answer({ ...facts, subgroupSize: 0 }));
      return Promise.resolve(answer({ error: "Cannot open a GPU: no WebGPU adapter" }));
    }
    if (line.includes("probe_packages.ts")) {
      if (state.packages) return Promise.resolve(answer({ sharp: "0.35.5", text: state.fonts }));
      return Promise.resolve(answer({ error: "Cannot find sharp\n  at x" }));
    }
    if (command === "mpirun" && state.mpi) {
      return Promise.resolve({ code: 0, stdout: "mpirun (Open MPI) 4.1.4\n", stderr: "" });
    }
    if (command === "/usr/bin/python3") {
      return Promise.resolve(state.python ? { code: 0, stdout: "", stderr: "" } : fail(""));
    }
    return Promise.resolve(undefined);
  };
  const record: System = {
    run,
    os: "linux",
    root: true,
    osRelease: DEBIAN,
    exists: () => Promise.resolve(false),
    ...system,
  };
  return { system: record, installs };
}

const quiet = { check: false, note: () => {} };

Deno.test("setUp() installs nothing when nothing is missing", async () => {
  const { system, installs } = machine({});
  const findings = await setUp(system, DENO, quiet);
  assert.deepEqual(findings.map((f) => [f.item, f.ok]), [
    ["deno", true],
    ["adapter", true],
    ["packages", true],
    ["fonts", true],
    ["notebook", true],
    ["mpi", true],
  ]);
  assert.equal(findings.at(-1)?.detail, "Open MPI 4.1.4");
  assert.deepEqual(installs, []);
});

Deno.test("setUp() installs Open MPI where it can, and goes on without where it cannot", async () => {
  const able = machine({ mpi: false });
  assert.ok((await setUp(able.system, DENO, quiet)).every((f) => f.ok));
  assert.equal(able.installs[1], "install -y --no-install-recommends openmpi-bin libopenmpi3");

  const offline = machine({ mpi: false, aptFails: true });
  const notes: string[] = [];
  const kept = await setUp(offline.system, DENO, { check: false, note: (t) => notes.push(t) });
  assert.equal(kept.at(-1)?.ok, false);
  assert.match(notes.at(-1) ?? "", /Unable to locate package x; going on without mpi$/);

  const user = machine({ mpi: false }, { root: false });
  const [mpi] = (await setUp(user.system, DENO, quiet)).filter((f) => !f.ok);
  assert.match(mpi.detail, /several machines only: sudo apt-get update && sudo .* openmpi-bin/);
  assert.deepEqual(user.installs, []);
  await setUp(machine({ mpi: false }).system, DENO, { ...quiet, check: true });
});

Deno.test("setUp() as root on Debian installs exactly what is missing, after one update", async () => {
  const { system, installs } = machine({ vulkan: false, fonts: false, python: false });
  const findings = await setUp(system, DENO, quiet);
  assert.ok(findings.every((f) => f.ok));
  assert.deepEqual(installs, [
    "update",
    "install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 fontconfig-config " +
    "fonts-dejavu-core python3-nbclient",
  ]);
});

Deno.test("setUp() installs npm packages first, and sees missing fonts only then", async () => {
  const { system, installs } = machine({ packages: false, fonts: false });
  assert.ok((await setUp(system, DENO, quiet)).every((f) => f.ok));
  assert.deepEqual(installs, [
    "deno install",
    "update",
    "install -y --no-install-recommends fontconfig-config fonts-dejavu-core",
  ]);
});

Deno.test("setUp() replaces OpenGL's adapter by Vulkan's, and goes on without when it cannot", async () => {
  const able = machine({ vulkan: false, opengl: true });
  const found = await setUp(able.system, DENO, quiet);
  assert.equal(found[1].slow, undefined);
  assert.equal(able.installs.length, 2);

  const offline = machine({ vulkan: false, opengl: true, aptFails: true });
  const notes: string[] = [];
  const kept = await setUp(offline.system, DENO, { check: false, note: (t) => notes.push(t) });
  assert.equal(kept[1].slow, true);
  assert.match(notes.at(-1) ?? "", /Unable to locate package x; going on with the slower adapter$/);
});

Deno.test("setUp() only says the command where it may not install", async () => {
  const cases: [Partial<System>, RegExp][] = [
    [{ root: false }, /^sudo apt-get update && sudo apt-get install -y .*mesa-vulkan-drivers/],
    [{ root: false, osRelease: 'ID=linuxmint\nID_LIKE="ubuntu debian"\n' }, /^sudo apt-get update/],
    [
      { osRelease: "ID=fedora\n" },
      /^dnf install -y mesa-vulkan-drivers vulkan-loader python3-nbclient$/,
    ],
    [{ osRelease: 'ID="arch"\n' }, /^pacman -S --needed vulkan-swrast .*python-nbclient$/],
    [
      { os: "darwin", osRelease: "", root: false },
      /Metal.*; python3 -m pip install --user nbclient/,
    ],
    [{ os: "windows", osRelease: "", root: false }, /Direct3D 12/],
    [{ osRelease: "ID=alpine\n" }, /install a Vulkan driver/],
  ];
  for (const [system, command] of cases) {
    const made = machine({ vulkan: false, python: false }, system);
    await assert.rejects(setUp(made.system, DENO, quiet), (error) => {
      assert.ok(error instanceof SetupIncomplete);
      assert.equal(error.exitCode, 4);
      assert.match(error.help ?? "", command);
      assert.match(
        error.message,
        /adapter \(Cannot open a GPU: no WebGPU adapter\), notebook \(no Py/,
      );
      return true;
    });
    assert.deepEqual(made.installs, []);
  }
});

Deno.test("setUp() with check installs nothing, and names the oldest Deno that serves", async () => {
  const { system, installs } = machine({ packages: false });
  await assert.rejects(setUp(system, "2.7.1", { ...quiet, check: true }), {
    message: "Cannot go on without: deno (2.7.1; needs 2.8 or later), packages (Cannot find sharp)",
    help: "npm install -g deno@latest && deno install",
  });
  assert.deepEqual(installs, []);
});

Deno.test("setUp() says why an installation failed", async () => {
  const apt = machine({ vulkan: false, aptFails: true });
  await assert.rejects(setUp(apt.system, DENO, quiet), (error) => {
    assert.ok(error instanceof ResourceError);
    assert.equal(error.message, "Cannot install packages: E: Unable to locate package x");
    assert.equal(error.help, "see what this says: apt-get update");
    return true;
  });
  const npm = machine({ packages: false, npmFails: true });
  await assert.rejects(setUp(npm.system, DENO, quiet), {
    message: "Cannot install the npm packages: error: no network",
  });
});

Deno.test("look() points at a GPU whose driver lacks Vulkan", async () => {
  const { system } = machine({}, {
    exists: (path) => Promise.resolve(path.endsWith("nvidia-smi")),
  });
  assert.match((await look(system, DENO))[1].detail, /^llvmpipe, software; .*nvidia-smi is there/);
});

Deno.test("findPython() goes on to the next Python when one lacks the modules", async () => {
  const asked: string[] = [];
  const python = await findPython((command) => {
    asked.push(command);
    if (command === "/usr/bin/python3") return Promise.resolve({ code: 1, stdout: "", stderr: "" });
    return Promise.resolve(
      command === "python3" ? { code: 0, stdout: "", stderr: "" } : undefined,
    );
  });
  assert.equal(python, "python3");
  assert.deepEqual(asked[0], "/usr/bin/python3");
  assert.equal(await findPython(() => Promise.resolve(undefined)), undefined);
});

Deno.test("familyOf() and installCommand() know this system's own name", async () => {
  const system = await thisSystem();
  assert.notEqual(installCommand(system, ["adapter"]), "");
  assert.ok(["debian", "fedora", "arch", "macos", "windows", "other"].includes(familyOf(system)));
});

Deno.test("deno task setup finds everything on a machine that can run these tests, quickly", async () => {
  const setup = new URL("../../lib/cli/setup.ts", import.meta.url).pathname;
  const root = new URL("../../", import.meta.url).pathname;
  const pythons = "/usr/bin/python3,/usr/local/bin/python3,/opt/homebrew/bin/python3,python3";
  const started = performance.now();
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      `--allow-read=${root},/etc/os-release,/usr/bin`,
      "--allow-sys=uid",
      `--allow-run=deno,mpirun,${pythons}`,
      setup,
      "--check",
      "--json",
    ],
    cwd: root,
  }).output();
  const decoder = new TextDecoder();
  assert.equal(code, 0, decoder.decode(stderr));
  const lines = decoder.decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map((l) => l.item ?? l.event), [
    "deno",
    "adapter",
    "packages",
    "fonts",
    "notebook",
    "mpi",
    "done",
  ]);
  assert.ok(performance.now() - started < 10_000, "about 0.3 s on an idle machine");
});
