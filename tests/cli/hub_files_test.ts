// Which files are taken, which names are refused, and where the cache is.

import assert from "node:assert/strict";
import { checkedEndpoint, checkedToken } from "../../lib/cli/hub_access.ts";
import { cacheFolder, RepoCache } from "../../lib/cli/hub_cache.ts";
import {
  checkpointFiles,
  filesFrom,
  type HubFile,
  isInside,
  matchingFiles,
  sizeText,
} from "../../lib/cli/hub_files.ts";
import { InputError, UsageError } from "../../lib/errors.ts";

const listOf = (...paths: string[]): HubFile[] =>
  paths.map((path, i) => ({
    path,
    sizeBytes: 1,
    etag: String(i).padStart(64, "0"),
    digest: "sha256",
  }));
const pathsOf = (chosen: { files: HubFile[] }) => chosen.files.map((file) => file.path);

const BESIDE = [
  "LICENSE.md",
  "ae.safetensors",
  "config.json",
  "config_segmentation.json",
  "generation_config.json",
  "llm_config.json",
  "merges.txt",
  "tokenizer.json",
  "tokenizer_config.json",
  "vit_config.json",
  "vocab.json",
];
const NOT_TAKEN = [
  "README.md",
  ".gitattributes",
  "modeling.py",
  "pytorch_model.bin",
  "model.pt",
  "ema.pt",
  "scheduler.pt",
  "figures/teaser.png",
  "optimizer.safetensors",
];

for (
  const [weights, taken] of [
    [["ema.safetensors"], ["ema.safetensors"]],
    [["model.safetensors"], ["model.safetensors"]],
    [["ema.safetensors", "model.safetensors"], ["ema.safetensors"]],
    [["ema.safetensors", "ema_bf16.safetensors"], ["ema_bf16.safetensors"]],
    [["model.safetensors", "model_bf16.safetensors"], ["model_bf16.safetensors"]],
    [["ema.safetensors", "model_bf16.safetensors"], ["ema.safetensors"]],
    [
      [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
      ],
      [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
      ],
    ],
    [["ema_fp32.safetensors"], ["ema_fp32.safetensors"]], // no usual name: whatever there is
  ]
) {
  Deno.test(`checkpointFiles() takes ${taken.join(", ")} of ${weights.join(", ")}`, () => {
    const chosen = checkpointFiles("org/model", listOf(...BESIDE, ...weights, ...NOT_TAKEN));
    assert.deepEqual(pathsOf(chosen), [...BESIDE, ...taken]);
    assert.deepEqual(chosen.passedOver, weights.filter((name) => !taken.includes(name)));
    assert.equal(chosen.folder, "");
  });
}

Deno.test("checkpointFiles() goes into the only folder that has weights, and refuses to choose between two", () => {
  const one = listOf("README.md", "config.json", "ckpt/config.json", "ckpt/ema.safetensors");
  const chosen = checkpointFiles("org/model", one);
  assert.equal(chosen.folder, "ckpt/");
  assert.deepEqual(pathsOf(chosen), ["ckpt/config.json", "ckpt/ema.safetensors"]);

  const two = listOf("a/ema.safetensors", "b/ema.safetensors");
  assert.throws(() => checkpointFiles("org/model", two), {
    name: "InputError",
    message: "Cannot choose among the checkpoints of org/model: a/, b/",
    help: "take one with --files 'a/*'",
  });
  const beside = checkpointFiles("org/model", listOf("ema.safetensors", "b/ema.safetensors"));
  assert.deepEqual(pathsOf(beside), ["ema.safetensors"]);
});

Deno.test("checkpointFiles() refuses a repository without safetensors weights and says what it has", () => {
  assert.throws(() => checkpointFiles("org/model", listOf("config.json", "pytorch_model.bin")), {
    name: "InputError",
    message: "Cannot download org/model: it has no ema or model .safetensors weights",
    help: "it has config.json, pytorch_model.bin; others are taken with --files 'PATTERN'",
  });
});

Deno.test("matchingFiles() reads * inside a name, ** across folders and ? as one character", () => {
  const files = listOf("a.json", "b.json", "x/c.json", "x/y/d.json", "a+b.json", "run.py");
  const match = (...patterns: string[]) => pathsOf(matchingFiles("org/model", files, patterns));
  assert.deepEqual(match("*.json"), ["a.json", "b.json", "a+b.json"]);
  assert.deepEqual(match("**.json"), files.slice(0, 5).map((file) => file.path));
  assert.deepEqual(match("?.json"), ["a.json", "b.json"]);
  assert.deepEqual(match("x/**", "b.json"), ["b.json", "x/c.json", "x/y/d.json"]);
  assert.deepEqual(match("a+b.json"), ["a+b.json"]);
  assert.ok(!match("**").includes("run.py"));
  assert.throws(() => match("a.json", "e.json"), {
    name: "InputError",
    message: "Cannot find e.json in org/model",
    help: "it has a.json, b.json, x/c.json, x/y/d.json, a+b.json, run.py",
  });
});

for (const name of ["pytorch_model.bin", "*.pt", "code/*.py", "weights.PKL", "last.ckpt"]) {
  Deno.test(`matchingFiles() refuses ${name}, which can run code`, () => {
    assert.throws(() => matchingFiles("org/model", listOf(name), [name]), UsageError);
  });
}

const ESCAPES = [
  "../evil.json",
  "a/../../evil.json",
  "..",
  "/etc/evil.json",
  "a//b.json",
  "a/./b.json",
  "..\\evil.json",
  "C:evil.json",
  "\\\\host\\share",
  "a\0b.json",
  "a\nb.json",
  "",
  "a/",
  "x".repeat(256),
];
for (const path of ESCAPES) {
  Deno.test(`filesFrom() refuses the name ${JSON.stringify(path).slice(0, 30)}, file or folder`, () => {
    assert.equal(isInside(path), false);
    for (const type of ["file", "directory"]) {
      const entry = { type, path, size: 1, oid: "0".repeat(40) };
      assert.throws(() => filesFrom("org/model", [entry]), InputError);
    }
  });
}

Deno.test("isInside() passes names that hubs have", () => {
  for (const path of ["a", "a/b.c", "..a/b..", "ä b/%20.json", ".gitattributes", "x".repeat(255)]) {
    assert.equal(isInside(path), true, path);
  }
});

const OID = "0".repeat(40);
for (
  const [what, entries] of [
    ["null", [null]],
    ["a name that is no text", [{ type: "file", path: 3, size: 1, oid: OID }]],
    ["no digest", [{ type: "file", path: "a", size: 1 }]],
    ["a digest that is a path", [{ type: "file", path: "a", size: 1, oid: "../../x" }]],
    ["a short sha256", [{ type: "file", path: "a", size: 1, lfs: { oid: OID, size: 1 } }]],
    ["a negative size", [{ type: "file", path: "a", size: -1, oid: OID }]],
    ["a broken size", [{ type: "file", path: "a", size: 0.5, oid: OID }]],
    ["no size", [{ type: "file", path: "a", oid: OID }]],
    ["a name twice", [1, 2].map(() => ({ type: "file", path: "a", size: 1, oid: OID }))],
    [
      "a file that is a folder too",
      ["a/b/c", "a/b"].map((path) => ({
        type: "file",
        path,
        size: 1,
        oid: OID,
      })),
    ],
  ] as [string, unknown[]][]
) {
  Deno.test(`filesFrom() refuses an entry with ${what}`, () => {
    assert.throws(() => filesFrom("org/model", entries), {
      name: "InputError",
      message: /^Cannot download org\/model: its list of files has /,
    });
  });
}

Deno.test("cacheFolder() looks where other hub tools look, in their order", () => {
  const all = {
    HF_HUB_CACHE: "/1",
    HUGGINGFACE_HUB_CACHE: "/2",
    HF_HOME: "/3",
    XDG_CACHE_HOME: "/4",
    HOME: "/5",
    USERPROFILE: "/6",
  };
  const where = ["/1", "/2", "/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"];
  const names = Object.keys(all) as (keyof typeof all)[];
  for (let n = 0; n < 6; n++) {
    const set = names.slice(n);
    const env = (name: string) =>
      (set as string[]).includes(name) ? all[name as "HOME"] : undefined;
    assert.equal(cacheFolder(env), where[n] ?? "/6/.cache/huggingface/hub");
  }
  const tilde = (name: string) => ({ HF_HOME: "~/hf", HOME: "/home/a" })[name];
  assert.equal(cacheFolder(tilde), "/home/a/hf/hub");
  assert.throws(() => cacheFolder(() => undefined), UsageError);
});

for (const repo of ["a/b/c", "../b", "a/..", "a b/c", "a--b/c", "/a", "a/", "", "datasets/a/b"]) {
  Deno.test(`RepoCache refuses the repository ${JSON.stringify(repo)}`, () => {
    assert.throws(() => new RepoCache("/cache", repo), UsageError);
  });
}

Deno.test("RepoCache names its folder as other hub tools do", () => {
  assert.equal(new RepoCache("/c", "org/name-1.0").folder, "/c/models--org--name-1.0");
  assert.equal(new RepoCache("/c", "gpt2").folder, "/c/models--gpt2");
});

Deno.test("checkedToken() sends tokens over https or loopback only, and never repeats them", () => {
  for (
    const endpoint of [
      "https://hub.test",
      "http://127.0.0.1:80",
      "http://localhost",
      "http://[::1]:1",
    ]
  ) {
    assert.equal(checkedToken("hf_abc", endpoint), "hf_abc");
  }
  assert.equal(checkedToken("", "http://hub.test"), undefined);
  assert.equal(checkedToken(undefined, "http://hub.test"), undefined);
  for (
    const [token, endpoint] of [
      ["hf_secret", "http://hub.test"],
      ["hf_secret", "http://127.evil.test"],
      ["hf_secret\r\nHost: x", "https://hub.test"],
      ["hf secret", "https://hub.test"],
    ]
  ) {
    assert.throws(() => checkedToken(token, endpoint), (error: unknown) => {
      assert.ok(error instanceof UsageError);
      assert.ok(!`${error.message}${error.help}`.includes("secret"));
      return true;
    });
  }
});

Deno.test("checkedEndpoint() takes addresses and drops the slash at their end", () => {
  assert.equal(checkedEndpoint("https://hub.test/prefix//"), "https://hub.test/prefix");
  for (
    const text of ["hub.test", "ftp://hub.test", "https://hub.test?x=1", "https://hub.test/#a"]
  ) {
    assert.throws(() => checkedEndpoint(text), UsageError);
  }
});

Deno.test("sizeText() has three figures in every unit", () => {
  const cases: [number, string][] = [
    [0, "0 bytes"],
    [84.4, "84 bytes"],
    [999, "999 bytes"],
    [1000, "1.00 kB"],
    [99_949, "99.9 kB"],
    [99_950, "100 kB"],
    [999_499, "999 kB"],
    [999_500, "1.00 MB"],
    [29_214_520_256, "29.2 GB"],
    [2e12, "2.00 TB"],
    [3e15, "3000 TB"],
  ];
  for (const [bytes, text] of cases) assert.equal(sizeText(bytes), text);
});
