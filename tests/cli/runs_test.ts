import assert from "node:assert/strict";
import { runsCommand } from "../../lib/cli/runs.ts";
import { DENO } from "../deno_command.ts";
import { makeRun, STAGES, withRuns } from "../study/made_runs.ts";
import { runShell } from "./shell.ts";

/** Runs `deno task runs …` here. */
const runs = (root: string, ...args: string[]) => runShell(runsCommand, [...args, "--root", root]);

/** The events of a command with --json. */
async function events(root: string, ...args: string[]) {
  const { stdout, code, stderr } = await runs(root, ...args, "--json");
  assert.equal(code, 0, stderr);
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

/** Two arms and a run that was stopped. */
function makeThree(root: string): void {
  makeRun(root, { arm: "joint", config: { stages: STAGES } });
  makeRun(root, {
    arm: "und",
    config: { rate: 1e-4, stages: STAGES },
    metrics: (step) => ({ text: 3 / step }),
  });
  makeRun(root, { arm: "cut", logged: 2, end: { exitCode: 130, reason: "stopped" } });
}

Deno.test("runs lists every run with its state, steps and last losses", () =>
  withRuns(async (root) => {
    makeThree(root);
    const { stdout, code } = await runs(root);
    assert.equal(code, 0);
    const rows = stdout.trim().split("\n").map((line) => line.split(/ {2,}/).slice(0, 5));
    assert.deepEqual(rows[0].slice(0, 4), ["run", "state", "steps", "losses"]);
    assert.deepEqual(rows[1].slice(0, 5), [
      "made/joint/seed-0",
      "finished",
      "4/6",
      "text 0.500",
      "flow 0.250",
    ]);
    assert.deepEqual(rows[3].slice(0, 3), ["made/cut/seed-0", "interrupted", "2/4"]);
    const some = await events(root, "list", "--state", "interrupted,failed");
    assert.deepEqual(some.map(({ event, name }) => [event, name]), [
      ["run", "made/cut/seed-0"],
      ["done", undefined],
    ]);
    assert.deepEqual(some[0].metrics, { flow: 0.5, text: 1, "text/norm": 1 });
    assert.equal((await events(root, "--only", "und"))[0].name, "made/und/seed-0");
  }));

Deno.test("runs keeps NaN apart from nothing in JSON, and says when there is no run", () =>
  withRuns(async (root) => {
    assert.match((await runs(root)).stderr, /^no runs in/);
    makeRun(root, { metrics: () => ({ text: NaN, flow: -Infinity }) });
    assert.deepEqual((await events(root))[0].metrics, { text: "NaN", flow: "-Infinity" });
    const missing = await runs(`${root}/none`);
    assert.deepEqual([missing.code, missing.stdout], [3, ""]);
    assert.match(missing.stderr, /no such folder\nhelp: .*--root/);
  }));

Deno.test("runs show tells a run's sessions, metrics and events, or its settings with origins", () =>
  withRuns(async (root) => {
    makeRun(root, {
      config: { stages: STAGES, note: "a\u001b[31mb" },
      also: (run) => {
        run.event("slow step", { kernel: "matmul" }, { step: 3 });
        run.checkpoint({ step: 4, path: "checkpoints/step-0000004", bytes: 5000, sha256: "x" });
      },
    });
    const { stdout, code } = await runs(root, "show", "joint");
    assert.equal(code, 0);
    for (
      const line of [
        /^made\/joint\/seed-0 {2}finished$/m,
        /^steps +4 of 6$/m,
        /^ended +.*, exit 0: finished$/m,
        /^adapter +made adapter \(0\.1\) \(software\)$/m,
        /^stages +foundation 4, unified 2$/m,
        /^ {2}text +4 +0\.500 +4 +0\.500 +4$/m,
        /^ {2}4 +5\.00 kB +checkpoints\/step-0000004$/m,
        /^ {2}1 +3 +slow step +\{"kernel":"matmul"\}$/m,
      ]
    ) assert.match(stdout, line);
    const config = (await runs(root, "show", "joint", "--config")).stdout;
    assert.match(config, /^stages\.1\.name +"unified" +# /m);
    assert.match(config, /^rate +0\.001 +# default$/m);
    assert.equal(config.includes("\u001b"), false);
    const [run] = await events(root, "show", "joint", "--events", "0");
    assert.deepEqual([run.state, run.events, run.sessions.length], ["finished", [], 1]);
  }));

Deno.test("a run is named by its folder, its name, or a part that no other has", () =>
  withRuns(async (root) => {
    makeThree(root);
    for (const name of ["made/und/seed-0", "und", `${root}/made/und/seed-0/`]) {
      assert.match((await runs(root, "show", name)).stdout, /und\/seed-0 {2}finished/);
    }
    assert.match((await runs("/nowhere", "show", `${root}/made/und/seed-0`)).stdout, /finished/);
    const several = await runs(root, "show", "seed-0");
    assert.equal(several.code, 2);
    assert.match(several.stderr, /3 have seed-0 in their name\nhelp: give more of made\/cut/);
    const none = await runs(root, "show", "made/jiont/seed-0");
    assert.match(none.stderr, /Cannot find run.*\nhelp: the nearest name is made\/joint\/seed-0/);
    assert.equal((await runs(root, "show")).code, 2);
  }));

Deno.test("runs diff tells settings, machine and last metrics that differ", () =>
  withRuns(async (root) => {
    makeThree(root);
    const [diff] = await events(root, "diff", "joint", "und");
    assert.deepEqual(diff.settings, [{ path: "rate", before: 1e-3, after: 1e-4 }]);
    assert.deepEqual(diff.identity, [{ what: "arm", a: "joint", b: "und" }]);
    assert.deepEqual(diff.metrics[0], { name: "flow", a: { value: 0.25, step: 4 }, b: null });
    const { stdout } = await runs(root, "diff", "joint", "cut");
    assert.match(stdout, /^ {2}stages\.unified\.steps +2 +absent$/m);
    assert.match(stdout, /^ {2}text +0\.500 at step 4 +1\.00 at step 2$/m);
    const same = await runs(root, "diff", "joint", "joint");
    assert.match(same.stdout, /settings: the same[^]*machine: the same/);
  }));

Deno.test("runs plot writes a figure by the ending of its name, or says why not", () =>
  withRuns(async (root) => {
    makeThree(root);
    const svg = `${root}/figures/losses.svg`;
    const drawn = await runs(root, "plot", "joint", "und", "--out", svg);
    assert.deepEqual([drawn.code, drawn.stdout], [0, `${svg}\n`]);
    const text = await Deno.readTextFile(svg);
    assert.match(text, /text 0\.5000 at step 4/);
    assert.match(text, /foundation/);
    assert.match(drawn.stderr, /flow 0\.2500 at step 4/);
    const csv = `${root}/one.csv`;
    const two = ["--metric", "text,norm", "--smooth", "2", "--out", csv];
    const [figure] = await events(root, "plot", "cut", ...two);
    assert.deepEqual([figure.metrics, figure.path], [["text", "norm"], csv]);
    const rows = (await Deno.readTextFile(csv)).split("\n");
    for (
      const row of [
        "(a) text,made/cut/seed-0 as logged,,2,1,,,,",
        "(a) text,made/cut/seed-0,,2,1.5,,,,",
        "(b) norm,made/cut/seed-0,,2,1,,,,", // the run's name for it is text/norm
      ]
    ) assert.ok(rows.includes(row), `${row}: ${rows.join("\n")}`);
    for (
      const [args, code, message] of [
        [["joint"], 2, /--out is missing/],
        [["joint", "--out", `${root}/a.pdf`], 2, /a\.pdf: no such format\nhelp: .*\.svg, \.png/],
        [["joint", "joint", "--out", `${root}/a.svg`], 2, /joint\/seed-0 twice/],
        [
          ["joint", "--metric", "txt", "--out", `${root}/a.svg`],
          2,
          /metric txt in made.*\nhelp: the nearest name is text/,
        ],
        [
          ["joint", "--out", `${root}/made/joint/seed-0/run.json/a.svg`],
          4,
          /Cannot write .*a\.svg/,
        ],
      ] as const
    ) {
      const seen = await runs(root, "plot", ...args);
      assert.equal(seen.code, code, args.join(" "));
      assert.match(seen.stderr, message);
    }
  }));

Deno.test("runs plot writes the pixels of a PNG", () =>
  withRuns(async (root) => {
    makeThree(root);
    const path = `${root}/a.png`;
    assert.equal((await runs(root, "plot", "joint", "--out", path)).code, 0);
    const bytes = await Deno.readFile(path);
    assert.deepEqual([...bytes.subarray(1, 4)], [0x50, 0x4e, 0x47]);
  }));

Deno.test("runs query gives rows of one run or of the index, bounded, and keeps equal names apart", () =>
  withRuns(async (root) => {
    makeThree(root);
    const sql = "SELECT name, value, 'a' AS name, NULL, x'0f' FROM metric_now WHERE name = 'text'";
    const [columns, ...rows] = await events(root, "query", "joint", sql, "--limit", "2");
    assert.deepEqual(columns.columns, ["name", "value", "name", "NULL", "x'0f'"]);
    assert.deepEqual(rows.slice(0, -1).map((r) => r.values), [
      ["text", 2, "a", null, "x'0f'"],
      ["text", 1, "a", null, "x'0f'"],
    ]);
    const cut = await runs(root, "query", "joint", sql, "--limit", "2");
    assert.match(cut.stderr, /more than 2 rows/);
    assert.equal((await runs(root, "query", "joint", sql, "--limit", "4")).stderr, "");
    const all = await runs(
      root,
      "query",
      "--all",
      "SELECT run, value FROM metric WHERE name='flow'",
    );
    assert.match(all.stdout, /^made\/joint\/seed-0 +0\.25$/m);
    const path = `${root}/rows.csv`;
    await runs(root, "query", "joint", "SELECT '=1+1' AS a, -1 AS b, ';' AS c", "--out", path);
    assert.equal(await Deno.readTextFile(path), "a,b,c\n'=1+1,-1,;\n");
  }));

Deno.test("runs query refuses whatever is not one SELECT, and changes nothing", () =>
  withRuns(async (root) => {
    makeThree(root);
    const file = `${root}/made/joint/seed-0/run.sqlite`;
    const before = await Deno.readFile(file);
    for (
      const sql of [
        "DELETE FROM metric",
        "INSERT INTO metric VALUES ('a', 1, 1, 1, NULL)",
        "UPDATE session SET exit_code = 1",
        "DROP TABLE metric",
        "PRAGMA user_version = 9",
        "PRAGMA journal_mode = WAL",
        "CREATE TEMP TABLE t (a)",
        `ATTACH '${root}/other.sqlite' AS o`,
        `VACUUM INTO '${root}/copy.sqlite'`,
        "VACUUM",
        "BEGIN",
        "SELECT load_extension('x')",
        "WITH a AS (SELECT 1) DELETE FROM metric",
      ]
    ) {
      const seen = await runs(root, "query", "joint", sql);
      assert.equal(seen.code, 2, sql);
      assert.match(seen.stderr, /only SELECT is allowed here/, sql);
    }
    for (const sql of ["SELECT 1; SELECT 2", "SELECT 1;--x\nDROP TABLE metric"]) {
      assert.match((await runs(root, "query", "joint", sql)).stderr, /more than one statement/);
    }
    assert.match((await runs(root, "query", "joint", " -- x")).stderr, /the SELECT is empty/);
    assert.match((await runs(root, "query", "joint", "SELEC 1")).stderr, /syntax error/);
    assert.match((await runs(root, "query", "SELECT 1")).stderr, /a run and a SELECT are needed/);
    assert.match(
      (await runs(root, "query", "--all", "joint", "SELECT 1")).stderr,
      /with --all no run/,
    );
    assert.equal((await runs(root, "query", "joint", "SELECT 1;")).code, 0);
    assert.deepEqual(await Deno.readFile(file), before);
    const made = [...Deno.readDirSync(root)].map(({ name }) => name).sort();
    assert.deepEqual(made, ["index.sqlite", "made"]);
  }));

Deno.test("runs query ends a SELECT without an end", () =>
  withRuns(async (root) => {
    makeRun(root);
    const endless =
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";
    const { code, stderr } = await new Deno.Command(DENO ?? "deno", {
      args: [
        ...["run", "--no-check", "--no-prompt", "-A", "lib/cli/runs.ts", "query", "joint", endless],
        ...["--timeout", "0.5", "--root", root],
      ],
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(20_000),
    }).output();
    assert.equal(code, 4);
    assert.match(new TextDecoder().decode(stderr), /no answer within 0\.5 s\nhelp: narrow/);
  }));

Deno.test("runs export writes metrics in columns, and other tables with formulas quoted", () =>
  withRuns(async (root) => {
    makeRun(root, {
      config: { note: "=cmd" },
      metrics: (step) => step === 2 ? { text: NaN } : { text: step, flow: -step },
      also: (run) =>
        run.evaluation({
          step: 4,
          benchmark: "vqa",
          version: 1,
          scorer: "exact",
          split: "test",
          weights: "raw",
          n: 1,
          value: 1,
          low: 0,
          high: 1,
          items: [{ item: "a", answer: '@SUM(A1), "x"', target: "+1", score: 1 }],
        }),
    });
    const path = `${root}/m.csv`;
    assert.equal((await runs(root, "export", "joint", "--out", path)).code, 0);
    assert.equal(await Deno.readTextFile(path), "step,flow,text\n1,-1,1\n2,,NaN\n3,-3,3\n4,-4,4\n");
    const items = await runs(root, "export", "joint", "--table", "items");
    assert.equal(
      items.stdout,
      "step,benchmark,split,weights,item,answer,target,score,error\n" +
        `4,vqa,test,raw,a,"'@SUM(A1), ""x""",'+1,1,\n`,
    );
    const settings = (await runs(root, "export", "joint", "--table", "settings")).stdout;
    assert.match(settings, /^note,'=cmd,default$/m);
    for (const table of ["sessions", "events", "checkpoints", "evaluations", "probes"]) {
      assert.equal((await runs(root, "export", "joint", "--table", table)).code, 0, table);
    }
    assert.deepEqual((await events(root, "export", "joint"))[1], {
      event: "row",
      step: 2,
      flow: null,
      text: "NaN",
    });
    assert.equal((await runs(root, "export", "joint", "--out", `${root}/no/m.csv`)).code, 4);
    assert.equal((await runs(root, "export", "joint", "--table", "metric")).code, 2);
  }));

Deno.test("runs index reads everything again, and names what is damaged", () =>
  withRuns(async (root) => {
    makeThree(root);
    Deno.writeTextFileSync(`${root}/made/cut/seed-0/run.json`, "{");
    const { stdout, stderr } = await runs(root, "index");
    assert.match(stdout, /^3 runs in .*index\.sqlite, 1 of them damaged$/m);
    assert.match(stderr, /^made\/cut\/seed-0: Cannot read/);
    assert.match((await runs(root)).stdout, /^made\/cut\/seed-0 +damaged$/m);
    assert.equal((await runs(root, "show", "cut")).code, 3);
  }));

Deno.test("runs explains itself, and every subcommand too", async () => {
  assert.match((await runShell(runsCommand, ["--help"])).stdout, /list[^]*plot[^]*query/);
  for (const name of ["list", "show", "diff", "plot", "query", "export", "index"]) {
    const { stdout, code } = await runShell(runsCommand, [name, "--help"]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`usage: deno task runs ${name}[^]*--root DIR[^]*exit codes`));
  }
  const wrong = await runShell(runsCommand, ["plto"]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /no subcommand plto\nhelp: did you mean plot\?/);
});
