import assert from "node:assert/strict";
import { InputError } from "../../lib/errors.ts";
import { canonicalJson, hashSources, readCommit, sha256 } from "../../lib/study/provenance.ts";

/** Runs with a temporary folder holding the given files. */
function withFiles(files: Record<string, string>, test: (root: string) => void): void {
  const root = Deno.makeTempDirSync();
  try {
    for (const [path, text] of Object.entries(files)) {
      Deno.mkdirSync(`${root}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
      Deno.writeTextFileSync(`${root}/${path}`, text);
    }
    test(root);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
}

const A = "a".repeat(40);
const B = "b".repeat(40);

Deno.test("sha256() gives the published digest of abc, canonicalJson() ignores field order", () => {
  const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  assert.equal(sha256("abc"), abc);
  const text = canonicalJson({ b: [1, null, "x"], a: { d: true, c: 0.5 } });
  assert.equal(text, '{"a":{"c":0.5,"d":true},"b":[1,null,"x"]}');
});

Deno.test("hashSources() changes with content, name and place of a source and with nothing else", () => {
  const base = { "lib/a.ts": "1", "lib/b/c.ts": "2", "kernels/x.wgsl": "3", "deno.lock": "{}" };
  const hash = (files: Record<string, string>) => {
    let result = "";
    withFiles(files, (root) => result = hashSources(root));
    return result;
  };
  const first = hash(base);
  assert.match(first, /^[0-9a-f]{64}$/);
  assert.equal(hash({ ...base, "README.md": "text", "lib/.hidden": "x" }), first);
  assert.equal(hash(Object.fromEntries(Object.entries(base).reverse())), first);
  for (
    const changed of [
      { ...base, "lib/a.ts": "2" },
      { ...base, "deno.lock": "{ }" },
      { ...base, "experiments/e.ts": "" },
      { ...base, "lib/a.ts": "12", "lib/b/c.ts": "" },
    ]
  ) assert.notEqual(hash(changed), first);
  withFiles({ "deno.lock": "{}" }, (root) => {
    assert.throws(
      () => hashSources(root),
      new InputError(`Cannot identify the sources: no lib folder in ${root}`),
    );
  });
});

Deno.test("readCommit() follows a branch, packed references, a detached head and a worktree", () => {
  const head = { ".git/HEAD": "ref: refs/heads/main\n" };
  const packed = { ".git/packed-refs": `# pack-refs\n${B} refs/heads/main\n^${A}\n` };
  withFiles({ ...head, ...packed, ".git/refs/heads/main": `${A}\n` }, (root) => {
    assert.equal(readCommit(root), A);
  });
  withFiles({ ...head, ...packed }, (root) => assert.equal(readCommit(root), B));
  withFiles({ ".git/HEAD": `${A}\n` }, (root) => assert.equal(readCommit(root), A));
  withFiles({
    "tree/.git": "gitdir: ../main/.git/worktrees/tree\n",
    "main/.git/worktrees/tree/HEAD": "ref: refs/heads/topic\n",
    "main/.git/worktrees/tree/commondir": "../..\n",
    "main/.git/refs/heads/topic": `${B}\n`,
  }, (root) => assert.equal(readCommit(`${root}/tree`), B));
});

Deno.test("readCommit() is null without a repository and before the first commit", () => {
  withFiles({ "lib/a.ts": "" }, (root) => assert.equal(readCommit(root), null));
  withFiles({ ".git/HEAD": "ref: refs/heads/main\n" }, (root) => {
    assert.equal(readCommit(root), null);
  });
});
