// Whom the token is sent to, what is waited for, and what each answer of a hub that is no content ends with.

import assert from "node:assert/strict";
import {
  COMMIT,
  downloadHere,
  gitSha1,
  modelHub,
  TAKEN,
  TemporaryFolder,
  text,
} from "./hub_server.ts";

Deno.test("the token goes to the hub and not to the host of the content", async () => {
  await using s = modelHub();
  const args = ["--token", "hf_secret"];
  const ran = await s.run({ args });
  assert.equal(ran.code, 0, ran.stderr);
  const tokensOf = (at: string) =>
    new Set(s.hub.seen.filter((r) => r.at === at).map((r) => r.token));
  assert.deepEqual([...tokensOf("hub")], ["Bearer hf_secret"]);
  assert.deepEqual([...tokensOf("store")], [null]);
  assert.ok(!(ran.stdout + ran.stderr).includes("hf_secret"));
  assert.equal(s.hub.seen.filter(({ at }) => at === "store").length, 2);
});

Deno.test("the token does not follow a list that goes on at another host", async () => {
  await using s = modelHub();
  s.hub.metadataFaults.push(
    () => Response.json({ sha: COMMIT }),
    () => Response.json([], { headers: { Link: `<${s.hub.store}/api/next>; rel="next"` } }),
  );
  await s.run({ world: { env: (name) => name === "HF_TOKEN" ? "hf_secret" : undefined } });
  const next = s.hub.seen.find(({ path }) => path === "/api/next");
  assert.equal(next?.at, "store");
  assert.equal(next.token, null);
  assert.equal(s.hub.seen[0].token, "Bearer hf_secret");
});

Deno.test("every clock that watches for silence is called off: at the next bytes, or at the end", async () => {
  await using s = modelHub();
  const running = new Set<number>();
  let set = 0;
  const alarm = (ms: number) => {
    assert.equal(ms, 60_000);
    assert.equal(running.size, 0, "two clocks at once");
    const id = set++;
    running.add(id);
    return () => void running.delete(id);
  };
  const ran = await s.run({ world: { alarm } });
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(running.size, 0);
  assert.ok(set > s.hub.seen.length, `${set} clocks`); // before the answer and at its bytes
});

Deno.test("429 is waited out as long as the hub asks, in seconds or by date, for lists and for content", async () => {
  await using s = modelHub();
  const date = Date.UTC(2026, 0, 1, 12, 0, 0);
  const busy = (after: string) => () =>
    new Response("", { status: 429, headers: { "Retry-After": after } });
  s.hub.metadataFaults.push(busy("7"), busy("Thu, 01 Jan 2026 12:00:20 GMT"));
  s.hub.faults.push({ answer: busy("3") });
  const ran = await s.run({ world: { date: () => date } });
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(ran.waits, [7000, 20_000, 3000]);
  assert.match(ran.stderr, /the hub answers 429; trying again in 7 s/);
});

Deno.test("a wait of an hour is not waited out: exit code 1, what came is kept", async () => {
  await using s = modelHub();
  const busy = () => new Response("", { status: 429, headers: { "Retry-After": "3600" } });
  s.hub.faults.push(undefined, undefined, { answer: busy });
  const ran = await s.run();
  assert.equal(ran.code, 1);
  assert.deepEqual(ran.waits, []);
  assert.match(ran.stderr, /Cannot download \S+: the hub answers 429 and asks to wait 60 min/);
  assert.equal(s.cache.tree().filter((path) => !path.endsWith(".incomplete")).length, 2);
});

for (const status of [500, 502, 503, 504, 408]) {
  Deno.test(`status ${status} is tried again after 1, 2 and 4 s, then ends with exit code 1`, async () => {
    await using s = modelHub();
    const broken = () => new Response("", { status });
    s.hub.metadataFaults.push(broken, broken, broken);
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    assert.deepEqual(ran.waits, [1000, 2000, 4000]);

    s.hub.metadataFaults.push(...Array(4).fill(broken));
    s.hub.seen.length = 0;
    const failed = await s.run();
    assert.equal(failed.code, 1);
    assert.equal(s.hub.seen.length, 4);
    assert.match(failed.stderr, new RegExp(`the hub answers ${status} \\(tried 4 times\\)`));
  });
}

Deno.test("a link to content that has expired is asked for anew", async () => {
  await using s = modelHub();
  s.hub.faults.push(...Array(4), { answer: () => new Response("", { status: 403 }) });
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  assert.match(ran.stderr, /the host of the content answers 403; trying again/);
});

/** Answers of the hub that end the command: exit code, message, help. */
const REFUSALS: [string, () => Response, string[], RegExp][] = [
  [
    "no repository",
    () => new Response("", { status: 404, headers: { "X-Error-Code": "RepoNotFound" } }),
    [],
    /Cannot find org\/model at revision main on http.*\nhelp: a repository is named org\/name/,
  ],
  [
    "no revision",
    () => new Response("", { status: 404, headers: { "X-Error-Code": "RevisionNotFound" } }),
    ["--revision", "v9"],
    /Cannot find revision v9 of org\/model\nhelp: .*\/org\/model lists branches and tags/,
  ],
  [
    "a gated repository",
    () => new Response("", { status: 403, headers: { "X-Error-Code": "GatedRepo" } }),
    [],
    /Cannot open org\/model: it is gated, .*\(403\)\nhelp: accept the licence at .* set HF_TOKEN/,
  ],
  [
    "no login",
    () => new Response("", { status: 401 }),
    [],
    /private or not there \(401\)\nhelp: acc/,
  ],
  [
    "a token without the right",
    () => new Response("", { status: 403 }),
    ["--token", "hf_x"],
    /Cannot open org\/model: the hub refuses this token \(403\)\nhelp: accept the licence/,
  ],
  [
    "a page",
    () => new Response("<html>"),
    [],
    /as a model hub: \/api\/\S+ is not JSON\nhelp: check/,
  ],
  [
    "another status",
    () => new Response("", { status: 418 }),
    [],
    /\S+ answers 418\nhelp: check --e/,
  ],
  ["no commit", () => Response.json({}), [], /the hub gives undefined as its commit/],
  ["a path for a commit", () => Response.json({ sha: "../x" }), [], /the hub gives \.\.\/x as its/],
  ["null", () => Response.json(null), [], /Cannot download org\/model: http\S+ gives no list/],
  [
    "redirects in a circle",
    () =>
      new Response("", { status: 307, headers: { Location: "/api/models/org/model/revision/a" } }),
    [],
    /its redirects have no end/,
  ],
  [
    "a redirect to a file",
    () => new Response("", { status: 302, headers: { Location: "file:///etc/passwd" } }),
    [],
    /it redirects to file:\/\/\/etc\/passwd/,
  ],
];
for (const [what, answer, args, message] of REFUSALS) {
  Deno.test(`an answer of ${what} ends with exit code 3 and writes nothing`, async () => {
    await using s = modelHub();
    s.hub.metadataFaults.push(...Array(10).fill(answer));
    const ran = await s.run({ args });
    assert.equal(ran.code, 3, ran.stderr);
    assert.match(ran.stderr, message);
    assert.deepEqual(ran.waits, []);
    assert.deepEqual(s.cache.tree(), []);
  });
}

for (
  const [what, list] of [
    ["no list", { error: "x" }],
    ["a number", 3],
    ["a name that leaves the folder", [{ type: "file", path: "../ema.safetensors", size: 1 }]],
    ["an absolute name", [{ type: "file", path: "/tmp/ema.safetensors", size: 1 }]],
    ["a digest that is a path", [{ type: "file", path: "a", oid: "../../../x", size: 1 }]],
    ["no weights", []],
    [
      "more files than a model has",
      Array.from({ length: 100_001 }, (_, i) => ({ path: `${i}`, oid: "0".repeat(40), size: 1 })),
    ],
  ] as const
) {
  Deno.test(`a list of files that is or has ${what} ends with exit code 3 and writes nothing`, async () => {
    await using s = modelHub();
    s.hub.editList = () => list;
    const ran = await s.run();
    assert.equal(ran.code, 3, ran.stderr);
    assert.deepEqual(s.hub.deliveries, []);
    assert.deepEqual([...Deno.readDirSync(s.cache.path)], []);
  });
}

Deno.test("a file that is listed and not there ends with exit code 3 and names it", async () => {
  await using s = modelHub();
  s.hub.editList = (
    list,
  ) => [...list, { type: "file", path: "vit_config.json", size: 2, oid: gitSha1(text("[]")) }];
  const ran = await s.run();
  assert.equal(ran.code, 3);
  assert.match(ran.stderr, /Cannot find \/org\/model\/resolve\/\w+\/vit_config\.json on/);
});

Deno.test("too little space ends with exit code 4 before anything is fetched or written", async () => {
  await using s = modelHub();
  const ran = await s.run({ world: { freeBytes: () => Promise.resolve(1000) } });
  assert.equal(ran.code, 4);
  const needed = TAKEN.reduce((sum, name) => sum + s.hub.files.get(name)!.length, 0);
  assert.match(
    ran.stderr,
    new RegExp(`Cannot download: ${needed} bytes are needed \\(49\\.0 kB\\), and 1000 are free`),
  );
  assert.deepEqual(s.hub.deliveries, []);
  assert.deepEqual([...Deno.readDirSync(s.cache.path)], []);
});

Deno.test("a cache that cannot be written to ends with exit code 4", async () => {
  await using s = modelHub();
  Deno.writeTextFileSync(`${s.cache.path}/file`, "");
  const ran = await downloadHere(s.hub, `${s.cache.path}/file/cache`);
  assert.equal(ran.code, 4, ran.stderr);
  assert.match(ran.stderr, /help: name a folder that can be written to with --cache DIR/);
});

Deno.test("no network ends with exit code 1 and says which files to put where", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const endpoint = `http://127.0.0.1:${listener.addr.port}`;
  listener.close(); // nobody listens there now
  using cache = new TemporaryFolder();
  const ran = await downloadHere({ endpoint }, cache.path);
  assert.equal(ran.code, 1);
  assert.match(
    ran.stderr,
    /error: Cannot ask http\S+: the connection to 127\.0\.0\.1:\d+ failed: /,
  );
  assert.match(ran.stderr, /help: without a network, put config\.json, .* and use --model FOLDER/);
  assert.deepEqual(ran.waits, [1000, 2000, 4000]);
});

Deno.test("no right to the network ends with exit code 1 and names the flag", {
  permissions: { net: false },
}, async () => {
  const ran = await downloadHere({ endpoint: "https://hub.test" }, "not written to");
  assert.equal(ran.code, 1);
  assert.match(ran.stderr, /Cannot reach hub\.test: this process may not use the network there/);
  assert.match(ran.stderr, /help: run it with --allow-net=hub\.test/);
});

for (
  const [args, message] of [
    [["--revision", "../main"], /Cannot download revision "\.\.\/main"/],
    [["--revision", "a b"], /Cannot download revision "a b"/],
    [["--files", "*.bin"], /Cannot download \*\.bin: such files can run code/],
    [["--token", "a b"], /Cannot use the token: it has spaces/],
    [["other/model"], /unexpected argument other\/model/],
  ] as const
) {
  Deno.test(`download() refuses ${args.join(" ")} with exit code 2`, async () => {
    await using s = modelHub();
    const ran = await s.run({ args: [...args] });
    assert.equal(ran.code, 2, ran.stderr);
    assert.match(ran.stderr, message);
    assert.deepEqual(s.hub.deliveries, []);
  });
}
