// The cases are upstream's documented behaviour, written down as facts about this subset.

import assert from "node:assert/strict";
import { parseArgs } from "@std/cli/parse-args";

const same = (got: object, want: object) => assert.deepEqual({ ...got }, want);

Deno.test("parseArgs() reads values after a space or =, and numbers where they look like one", () => {
  same(parseArgs(["--lr", "2e-5", "--name=a=b", "--at=-3", "--shift", "-4", "in.png", "7"]), {
    _: ["in.png", 7],
    lr: 2e-5,
    name: "a=b",
    at: -3,
    shift: -4,
  });
});

Deno.test("parseArgs() does not let a boolean flag swallow the next argument", () => {
  same(parseArgs(["--quiet", "in.png"], { boolean: ["quiet", "json"] }), {
    _: ["in.png"],
    quiet: true,
    json: false,
  });
  same(parseArgs(["--quiet", "in.png"]), { _: [], quiet: "in.png" });
  same(parseArgs(["--quiet", "in.png", "--x"], { boolean: true }), {
    _: ["in.png"],
    quiet: true,
    x: true,
  });
  same(parseArgs(["--quiet=false", "--json", "false"], { boolean: ["quiet", "json"] }), {
    _: [],
    quiet: false,
    json: false,
  });
});

Deno.test("parseArgs() keeps strings as typed, and gives the empty string for a string without value", () => {
  same(parseArgs(["--run", "007", "--tag", "08"], { string: ["run", "tag", "_"] }), {
    _: [],
    run: "007",
    tag: "08",
  });
  same(parseArgs(["--run", "--x"], { string: "run" }), { _: [], run: "", x: true });
  same(parseArgs(["007"], { string: "_" }), { _: ["007"] });
});

Deno.test("parseArgs() fills defaults, aliases included, only for what is absent", () => {
  const options = { alias: { s: "steps" }, default: { steps: 400, lr: 1e-3 } };
  same(parseArgs(["-s", "20"], options), { _: [], s: 20, steps: 20, lr: 1e-3 });
  same(parseArgs([], options), { _: [], s: 400, steps: 400, lr: 1e-3 });
});

Deno.test("parseArgs() collects repeated flags, and otherwise the last one wins", () => {
  same(parseArgs(["--set", "a=1", "--set=b=2"], { string: "set", collect: "set" }), {
    _: [],
    set: ["a=1", "b=2"],
  });
  same(parseArgs([], { collect: ["set"] }), { _: [], set: [] });
  same(parseArgs(["--n", "1", "--n", "2"]), { _: [], n: 2 });
});

Deno.test("parseArgs() negates only what is negatable", () => {
  const options = { boolean: ["color"], negatable: ["color"], default: { color: true } };
  same(parseArgs(["--no-color"], options), { _: [], color: false });
  same(parseArgs([], options), { _: [], color: true });
  same(parseArgs(["--no-color"]), { _: [], "no-color": true });
});

Deno.test("parseArgs() splits short flags", () => {
  same(parseArgs(["-abc", "-n5", "-o=x", "-v", "1"], { boolean: ["v"] }), {
    _: [1],
    a: true,
    b: true,
    c: true,
    n: 5,
    o: "x",
    v: true,
  });
});

Deno.test("parseArgs() stops at -- and can keep the rest apart", () => {
  same(parseArgs(["a", "--", "--b", "c"]), { _: ["a", "--b", "c"] });
  same(parseArgs(["a", "--", "--b", "2"], { "--": true }), { _: ["a"], "--": ["--b", "2"] });
  same(parseArgs(["-"]), { _: ["-"] });
});

Deno.test("parseArgs() hands what is not declared to unknown, and drops it on false", () => {
  const seen: unknown[] = [];
  const got = parseArgs(["--steps", "3", "--stps", "4", "file"], {
    string: ["steps"],
    unknown: (arg, key, value) => {
      seen.push([arg, key, value]);
      return key === undefined;
    },
  });
  same(got, { _: ["file"], steps: "3" });
  assert.deepEqual(seen, [["--stps", "stps", "4"], ["file", undefined, undefined]]);
});

Deno.test("parseArgs() cannot be made to touch Object.prototype", () => {
  const got = parseArgs(["--__proto__", "x", "--constructor=y"]);
  assert.equal(got["__proto__"], "x");
  assert.equal(({} as Record<string, unknown>).x, undefined);
  assert.equal(Object.getPrototypeOf(got), null);
});
