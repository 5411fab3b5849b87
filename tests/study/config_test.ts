import assert from "node:assert/strict";
import { InputError, UsageError } from "../../lib/errors.ts";
import { editDistance } from "../../lib/data/edit_distance.ts";
import { readConfigFile, resolveConfig, setLayer } from "../../lib/study/config.ts";

const DEFAULTS = {
  steps: 400,
  name: "demo",
  gate: true,
  seeds: [0],
  limit: null as number | null,
  optimizer: { lr: 1e-3, betas: [0.9, 0.95] },
};

Deno.test("resolveConfig() lets later layers win field by field and keeps each origin", () => {
  const { values, origins } = resolveConfig(DEFAULTS, [
    { origin: "preset quick", values: { steps: 40, optimizer: { lr: 2e-3 } } },
    { origin: "tiny.json", values: { optimizer: { lr: 5e-4 }, seeds: [1, 2] } },
    setLayer(["optimizer.betas=0.8,0.9", "gate=false", "limit=7"], DEFAULTS),
  ]);
  assert.deepEqual(values, {
    steps: 40,
    name: "demo",
    gate: false,
    seeds: [1, 2],
    limit: 7,
    optimizer: { lr: 5e-4, betas: [0.8, 0.9] },
  });
  assert.deepEqual(origins, {
    steps: "preset quick",
    name: "default",
    gate: "--set",
    seeds: "tiny.json",
    limit: "--set",
    "optimizer.lr": "tiny.json",
    "optimizer.betas": "--set",
  });
  assert.equal(DEFAULTS.steps, 400);
});

Deno.test("setLayer() reads text by the kind of the field it sets", () => {
  const set = (flag: string) => resolveConfig(DEFAULTS, [setLayer([flag], DEFAULTS)]).values;
  assert.equal(set("name=400").name, "400");
  assert.equal(set("name=a=b").name, "a=b");
  assert.equal(set("steps=1e3").steps, 1000);
  assert.equal(set("limit=null").limit, null);
  assert.deepEqual(set("seeds=[3,5]").seeds, [3, 5]);
  assert.deepEqual(set("seeds=").seeds, []);
  const both = setLayer(["optimizer.lr=1", "optimizer.betas=0,0"], DEFAULTS);
  assert.deepEqual(resolveConfig(DEFAULTS, [both]).values.optimizer, { lr: 1, betas: [0, 0] });
});

Deno.test("resolveConfig() refuses an unknown field, naming source, field and nearest name", () => {
  const fails = (origin: string, values: unknown, message: string, help: string) =>
    assert.throws(() => resolveConfig(DEFAULTS, [{ origin, values }]), (error) => {
      assert.ok(error instanceof UsageError);
      assert.deepEqual([error.message, error.help, error.exitCode], [message, help, 2]);
      return true;
    });
  fails(
    "tiny.json",
    { optimizer: { lR: 1 } },
    "Cannot use tiny.json: unknown field optimizer.lR",
    "The nearest name is optimizer.lr",
  );
  fails(
    "tiny.json",
    { nope: 1 },
    "Cannot use tiny.json: unknown field nope",
    "The fields are steps, name, gate, seeds, limit, optimizer",
  );
  assert.throws(
    () => resolveConfig(DEFAULTS, [{ origin: "f.json", values: JSON.parse('{"__proto__": {}}') }]),
    /^UsageError: Cannot use f.json: unknown field __proto__$/,
  );
  assert.throws(() => setLayer(["step=3"], DEFAULTS), (error) => {
    assert.ok(error instanceof UsageError);
    assert.equal(error.message, "Cannot use --set: unknown field step");
    assert.equal(error.help, "The nearest name is steps");
    return true;
  });
  assert.throws(() => setLayer(["steps.a=3"], DEFAULTS), /unknown field steps.a/);
  assert.throws(() => setLayer(["toString=3"], DEFAULTS), /unknown field toString/);
  assert.throws(
    () => setLayer(["steps"], DEFAULTS),
    /--set steps: it is not of the form field=value/,
  );
});

Deno.test("resolveConfig() refuses values of another kind", () => {
  const cases: [unknown, string][] = [
    [{ steps: "many" }, 'Cannot use steps from f.json: "many" is not a number'],
    [{ steps: Infinity }, "Cannot use steps from f.json: null is not a finite number"],
    [{ gate: 1 }, "Cannot use gate from f.json: 1 is not a boolean"],
    [{ name: null }, "Cannot use name from f.json: null is not a string"],
    [{ optimizer: 3 }, "Cannot use optimizer from f.json: 3 is not a record"],
    [{ seeds: 3 }, "Cannot use seeds from f.json: 3 is not a list"],
    [{ seeds: [1, "2"] }, 'Cannot use seeds[1] from f.json: "2" is not a number'],
    [{ limit: [1] }, "Cannot use limit from f.json: [1] is not a string, number, boolean or null"],
    [[], "Cannot use f.json: it holds a list, not a record"],
  ];
  for (const [values, message] of cases) {
    assert.throws(
      () => resolveConfig(DEFAULTS, [{ origin: "f.json", values }]),
      (error) => error instanceof UsageError && error.message === message,
      message,
    );
  }
  assert.throws(
    () => resolveConfig(DEFAULTS, [setLayer(["steps=many"], DEFAULTS)]),
    /Cannot use steps from --set: "many" is not a number/,
  );
  assert.throws(
    () => setLayer(["optimizer={"], DEFAULTS),
    /Cannot use optimizer from --set: "{" is not JSON/,
  );
});

Deno.test("a value of another kind comes with what to write instead", () => {
  const help = (origin: string, values: unknown) => {
    try {
      resolveConfig(DEFAULTS, [{ origin, values }]);
    } catch (error) {
      assert.ok(error instanceof UsageError);
      return error.help;
    }
  };
  assert.equal(help("--set", { steps: "abc" }), "Give a number, such as --set steps=400");
  assert.equal(help("f.json", { steps: "x" }), 'Give a number, such as "steps": 400');
  assert.equal(help("f.json", { optimizer: { lr: "x" } }), 'Give a number, such as "lr": 0.001');
  assert.equal(help("--set", { optimizer: 3 }), "Set optimizer.lr or optimizer.betas");
  assert.equal(help("--set", { seeds: [1, "x"] }), "Give a list, such as --set seeds=0");
  assert.equal(
    help("--set", { optimizer: { betas: 1 } }),
    "Give a list, such as --set optimizer.betas=0.9,0.95",
  );
});

Deno.test("readConfigFile() drops $schema and names a file that is missing or not JSON", () => {
  const dir = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(`${dir}/good.json`, '{"$schema": "x", "steps": 3}');
    Deno.writeTextFileSync(`${dir}/bad.json`, '{"steps": 3');
    Deno.writeTextFileSync(`${dir}/list.json`, "[1]");
    const layer = readConfigFile(`${dir}/good.json`);
    assert.deepEqual(layer, { origin: `${dir}/good.json`, values: { steps: 3 } });
    const message = (name: string) => {
      try {
        readConfigFile(`${dir}/${name}`);
      } catch (error) {
        assert.ok(error instanceof InputError);
        assert.ok(error.help);
        assert.doesNotMatch(error.message, /\n|os error|position/);
        return error.message.replace(dir, ".");
      }
    };
    assert.match(message("bad.json")!, /^Cannot read settings from .\/bad.json: it is not JSON: /);
    Deno.writeTextFileSync(`${dir}/word.json`, '{\n  "steps": many\n}');
    assert.match(message("word.json")!, /word.json: it is not JSON: Unexpected token 'm' in /);
    Deno.mkdirSync(`${dir}/folder.json`);
    assert.match(message("folder.json")!, /folder.json: Is a directory$/);
    assert.equal(message("list.json"), "Cannot read settings from ./list.json: it holds a list");
    assert.equal(message("gone.json"), "Cannot read settings from ./gone.json: no such file");
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});

Deno.test("editDistance() counts insertions, deletions and replacements", () => {
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("", "abc"), 3);
  assert.equal(editDistance("flaw", "lawn"), 2);
  assert.equal(editDistance("same", "same"), 0);
});
