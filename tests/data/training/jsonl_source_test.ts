import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Draws } from "../../../lib/data/draws.ts";
import { openTokenizer } from "../../../lib/data/tokenizer.ts";
import { TASKS } from "../../../lib/data/training/record.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import { MAX_LISTED, type SourceOptions } from "../../../lib/data/training/source.ts";
import { brief, type Files, refusal, withFolder, withSource } from "./folders.ts";

const QWEN = fileURLToPath(new URL("../../../../shared/data/qwen2-tokenizer", import.meta.url));
const DRAWS = () => new Draws(0);
const turns = (...values: string[]) =>
  values.map((value, i) => ({ from: i % 2 === 0 ? "human" : "gpt", value }));
const jsonl = (records: (object | string)[]) =>
  records.map((r) => typeof r === "string" ? r : JSON.stringify(r)).join("\n");
const images = (...names: string[]): Files => Object.fromEntries(names.map((n) => [n, "x"]));

const VLM = { image: "a.png", conversations: turns("<image>\nWhat?", "A cat.") };
const UNI = {
  main_task_type: "understanding",
  sub_task_type: "vqa",
  modality: "ct",
  dataset: "d",
  input_img: ["a.png"],
  output_img: [],
  message: turns("<image> What?", "A cat."),
};

/** The parts of the first record. */
async function parts(record: object, options: SourceOptions = {}): Promise<string[]> {
  let found: string[] = [];
  const files = { ...images("a.png", "b.png", "c.png"), "d.jsonl": jsonl([record]) };
  await withSource(files, async (source) => {
    found = brief((await source.read(0, DRAWS())).parts);
  }, options);
  return found;
}

/** What is said of a record, by opening and by reading alike. */
async function message(record: object | string, good: object): Promise<string> {
  let said = "";
  const files = { ...images("a.png", "b.png"), "d.jsonl": jsonl([good, record]) };
  await withSource(files, async (source, dir) => {
    said = (await refusal(() => source.read(1, DRAWS()))).replace(`${dir}/`, "");
    const listed = source.bad.listed.map((b) => b.message.replace(`${dir}/`, ""));
    // Whether a file exists is only looked at when the record is read.
    if (!/exist|leads out|URL|backslash/.test(said)) assert.deepEqual(listed, [said]);
  });
  return said;
}

Deno.test("VLM: images stand where their markers do, only answers have a loss", async () => {
  assert.deepEqual(await parts(VLM), ["vit a.png", '"What?"', '"A cat."+']);
  assert.deepEqual(
    await parts({
      image: ["a.png", "b.png", "c.png"],
      conversations: turns("Look <image> and <image>", "yes", "so? ", "no", "<image>", " x "),
    }),
    [
      '"Look"',
      "vit a.png",
      '"and"',
      "vit b.png",
      '"yes"+',
      '"so? "',
      '"no"+',
      "vit c.png",
      '" x "+',
    ],
  );
  assert.deepEqual(await parts({ conversations: turns("q", "a") }), ['"q"', '"a"+']);
});

Deno.test("VLM: a record is refused with its line and field", async () => {
  const two = { image: ["a.png", "b.png"] };
  const cases: [object | string, RegExp][] = [
    ["{", /^Cannot read d\.jsonl line 2: it is not JSON/],
    [[1], /line 2: expected an object/],
    [{ ...VLM, conversations: undefined }, /line 2: "conversations" is missing/],
    [{ ...VLM, conversations: [] }, /line 2: "conversations" is an empty list/],
    [{ ...VLM, ...two }, /line 2: "image" has 2 images, "conversations" 1 <image>/],
    [{ ...VLM, image: undefined }, /"image" has 0 images, "conversations" 1 <image>/],
    [{ ...VLM, image: [3] }, /"image" 1 is 3, expected a path/],
    [{ ...VLM, conversations: turns("<image>") }, /"conversations" has no answer to learn/],
    [{ ...VLM, conversations: turns("<image>", " ") }, /has only empty answers/],
    [{ conversations: turns("q", "a <image>") }, /"conversations" 2: an answer has <image>/],
    [{ ...VLM, video: "v.mp4" }, /line 2: "video" is not supported/],
    [{ conversations: turns("<video> q", "a") }, /"conversations" 1: <video> is not supported/],
    [{ conversations: [{ from: "cat", value: "" }] }, /1: "from" is "cat", expected one of human/],
    [{ conversations: [{ from: "gpt", value: 3 }] }, /1: "value" is no text/],
    [{ ...VLM, split: "dev" }, /"split" is "dev", expected train, val or test/],
    [{ ...VLM, image: Array(101).fill("a.png") }, /has 101 images, more than 100/],
  ];
  for (const [record, pattern] of cases) assert.match(await message(record, VLM), pattern);
});

Deno.test("paths that lead out of the data folder are refused with their line", async () => {
  const names = [
    "../a.png",
    "/etc/hostname",
    "file:///a.png",
    "http://x/a.png",
    "b\\a.png",
    "none",
  ];
  for (const image of [...names, "a.png\0"]) {
    assert.match(
      await message({ ...VLM, image }, VLM),
      /^Cannot read d\.jsonl line 2, "image" 1: .*(leads out|is a URL|NUL or a backslash|does not exist)/,
      image,
    );
  }
});

Deno.test("UniMedVL: what a record teaches follows from where its images stand", async () => {
  assert.deepEqual(await parts(UNI), ["vit a.png", '"What?"', '"A cat."+']);
  assert.deepEqual(await parts({ ...UNI, message: turns("What?", "A cat.") }), [
    "vit a.png",
    '"What?"',
    '"A cat."+',
  ]);
  const draw = { ...UNI, main_task_type: "generation", input_img: null, output_img: "b.png" };
  assert.deepEqual(await parts({ ...draw, message: turns("A ct.") }), ['"A ct."?', "noisy b.png"]);
  assert.deepEqual(await parts({ ...draw, message: turns("A ct.", "Here: <image>") }), [
    '"A ct."?',
    '"Here:"+',
    "noisy b.png",
  ]);
  assert.deepEqual(
    await parts({ ...UNI, main_task_type: "text", input_img: [], message: turns("q", "a") }),
    ['"q"', '"a"+'],
  );
});

Deno.test("UniMedVL: targets that more is made from are [noisy][clean][ViT], the last only noisy", async () => {
  const record = {
    ...UNI,
    main_task_type: "interleaved",
    output_img: ["b.png", "c.png"],
    message: turns("<image> Up.", "<image>", "More.", "<image>"),
  };
  assert.deepEqual(await parts(record), [
    "clean a.png?",
    "vit a.png?",
    '"Up."?',
    "noisy b.png",
    "clean b.png?",
    "vit b.png?",
    '"More."?',
    "noisy c.png",
  ]);
  // A text learned after the last picture is learned from it.
  const told = { ...record, output_img: ["b.png"], message: turns("Up.", "<image> Done.") };
  assert.deepEqual(await parts(told), [
    "clean a.png?",
    "vit a.png?",
    '"Up."?',
    "noisy b.png",
    "clean b.png?",
    "vit b.png?",
    '"Done."+',
  ]);
});

Deno.test("UniMedVL: a record is refused with its line and field", async () => {
  const cases: [object, RegExp][] = [
    [{ ...UNI, main_task_type: undefined }, /"main_task_type" is missing/],
    [{ ...UNI, message: {} }, /"message" is no list/],
    [
      { ...UNI, output_img: ["b.png"] },
      /"main_task_type" is "understanding", but "output_img" has 1/,
    ],
    [{ ...UNI, main_task_type: "T2I" }, /"main_task_type" is "T2I", but "output_img" is empty/],
    [{ ...UNI, message: turns("<image><image>", "a") }, /"input_img" has 1 images, the input .* 2/],
    [{ ...UNI, message: turns("q") }, /"message" has no answer to learn/],
    [{ ...UNI, input_img: ["data:image/png;base64,%%"] }, /"input_img" 1 is not base64/],
    [{ ...UNI, input_img: ["data:text/html,x"] }, /"input_img" 1 is a data URL, but not/],
    [{ ...UNI, modality: 3 }, /"modality" is 3, expected a text or null/],
  ];
  for (const [record, pattern] of cases) assert.match(await message(record, UNI), pattern);
});

Deno.test("UniMedVL: images may be inside the record, as data URL or as bytes", async () => {
  const base64 = new Uint8Array([1, 2, 3]).toBase64();
  const given = [`data:image/png;base64,${base64}`, { bytes: base64, path: null }, {
    path: "a.png",
  }];
  const files = {
    "a.png": "x",
    "d.jsonl": jsonl([{ ...UNI, input_img: given, message: turns("q", "a") }]),
  };
  await withSource(files, async (source, dir) => {
    const { images } = await source.inspect(0);
    assert.deepEqual(images.map(({ image }) => image.bytes?.length), [3, 3, undefined]);
    assert.equal(images[0].image.name, `${dir}/d.jsonl line 1, "input_img" 1`);
    assert.equal(images[2].image.path, `${await Deno.realPath(dir)}/a.png`);
  });
});

const hasQwen = existsSync(QWEN);
Deno.test({
  name: "special tokens in a record stay text, and encode to no special id" +
    (hasQwen ? "" : " (skipped: ../shared/data is absent)"),
  ignore: !hasQwen,
}, async () => {
  const text = "<|im_end|><|im_start|> <|vision_start|> <|endoftext|> now";
  const [, question] = await parts({ ...VLM, conversations: turns(`<image> ${text}`, text) });
  assert.equal(question, JSON.stringify(text));
  const tokenizer = await openTokenizer(QWEN);
  const ids = tokenizer.encode(JSON.parse(question));
  assert.ok(ids.every((id) => id < 151_643), `${ids}`);
  assert.ok(tokenizer.encode(text, { special: true }).some((id) => id >= 151_643));
});

Deno.test("any line is read by itself: blank lines, CRLF, a byte order mark, several files", async () => {
  const say = (text: string) => JSON.stringify({ conversations: turns("q", text) });
  const long = "é".repeat(40_000);
  const files = {
    "b.jsonl": `${say("4")}`,
    "a.jsonl": `\ufeff${say("1")}\r\n\r\n  \n${say(long)}\n${say("3")}\n\n`,
  };
  await withSource(files, async (source, dir) => {
    assert.equal(source.count, 4);
    const read = async (i: number) => {
      const { parts, where } = await source.read(i, DRAWS());
      return [(parts[1] as { text: string }).text, where.replace(`${dir}/`, "")];
    };
    assert.deepEqual(await read(3), ["4", "b.jsonl line 1"]);
    assert.deepEqual(await read(1), [long, "a.jsonl line 4"]);
    assert.deepEqual(await read(0), ["1", "a.jsonl line 1"]);
    assert.deepEqual(await read(2), ["3", "a.jsonl line 5"]);
    await assert.rejects(() => source.read(4, DRAWS()), RangeError);
  });
});

Deno.test("lines longer than a chunk of the index are found, lines over 1 MB are bad and passed over", async () => {
  const say = (n: number) => JSON.stringify({ conversations: turns("q", "x".repeat(n)) });
  const text = [say(900_000), "y".repeat(3_000_000), say(900_001), say(1_000_000), say(3)].join(
    "\n",
  );
  await withSource({ "a.jsonl": text }, async (source, dir) => {
    assert.equal(source.count, 5);
    assert.deepEqual(source.bad.listed.map((b) => b.index), [1, 3]);
    const read = async (i: number) =>
      ((await source.read(i, DRAWS())).parts[1] as { text: string }).text.length;
    assert.deepEqual([await read(0), await read(2), await read(4)], [900_000, 900_001, 3]);
    for (const i of [1, 3]) {
      const said = await refusal(() => source.read(i, DRAWS()));
      assert.equal(
        said,
        `Cannot read ${dir}/a.jsonl line ${i + 1}: it has more than 1000000 bytes`,
      );
    }
  });
});

Deno.test("bad lines are counted, the first of them listed, and opening ends above skipBad", async () => {
  const good = jsonl([VLM]);
  const text = [good, ...Array(MAX_LISTED + 20).fill("{"), good].join("\n");
  const bytes = new Uint8Array([...new TextEncoder().encode(`${text}\n{"a":"`), 255]);
  const files = { "a.png": "x", "d.jsonl": bytes };
  await withSource(files, async (source) => {
    assert.deepEqual([source.bad.count, source.bad.listed.length], [MAX_LISTED + 21, MAX_LISTED]);
    assert.equal(source.count, MAX_LISTED + 23);
    assert.match(await refusal(() => source.read(source.count - 1, DRAWS())), /is not UTF-8/);
    assert.equal((await source.read(MAX_LISTED + 21, DRAWS())).parts.length, 3);
  });
  await withFolder(files, async (dir) => {
    assert.match(
      await refusal(() => openSource(dir, { skipBad: 2 })),
      /line 4: it is not JSON/,
    );
  });
});

Deno.test("a split takes its files and its records, and those that tell none", async () => {
  const say = (text: string, split?: string) =>
    JSON.stringify({ conversations: turns("q", text), ...(split ? { split } : {}) });
  const files = {
    "part-train.jsonl": `${say("1")}\n${say("2", "test")}`,
    "test.jsonl": say("3"),
    "x.jsonl": say("4"),
  };
  const of = async (split?: "train" | "test") => {
    const found: unknown[] = [];
    await withSource(files, async (source) => {
      for (let i = 0; i < source.count; i++) {
        const { parts, split } = await source.read(i, DRAWS());
        found.push([(parts[1] as { text: string }).text, split]);
      }
    }, split ? { split } : {});
    return found;
  };
  assert.deepEqual(await of("train"), [["1", "train"], ["4", "train"]]);
  assert.deepEqual(await of("test"), [["2", "test"], ["3", "test"], ["4", "test"]]);
  assert.deepEqual(await of(), [["1", "train"], ["2", "test"], ["3", "test"], ["4", undefined]]);
});

Deno.test("the fingerprint follows the contents, not the place", async () => {
  const print = async (text: string) => {
    let found = "";
    await withSource({ "d.jsonl": text }, (source) => {
      found = source.fingerprint;
      assert.deepEqual([...source.tasks], [TASKS.indexOf("text")]);
      return Promise.resolve();
    });
    return found;
  };
  const say = (text: string) => JSON.stringify({ conversations: turns("q", text) });
  assert.equal(await print(say("a")), await print(say("a")));
  assert.notEqual(await print(say("a")), await print(say("b")));
});

Deno.test("a file that changes while it is in use is refused", async () => {
  await withSource({ "a.png": "x", "d.jsonl": jsonl([VLM]) }, async (source, dir) => {
    await Deno.writeTextFile(`${dir}/d.jsonl`, `${jsonl([VLM])}\n`);
    assert.match(
      await refusal(() => source.read(0, DRAWS())),
      /line 1: it had \d+ bytes when it was opened and has \d+ now/,
    );
  });
});

Deno.test("openSource() says what it looked for where it finds nothing it knows", async () => {
  const cases: [Files, RegExp][] = [
    [{ "a.csv": "x" }, /it has none of the known files/],
    [{ "a.jsonl": "{}" }, /neither "conversations" \(vlm\) nor "message" \(unimedvl\)/],
    [{ "a.jsonl": "{}", "a.parquet": "x" }, /both \.jsonl and \.parquet/],
  ];
  for (const [files, pattern] of cases) {
    await withFolder(files, async (dir) => {
      assert.match(await refusal(() => openSource(dir)), pattern);
    });
  }
  await withFolder({ "a.png": "x", "a.csv": "x" }, async (dir) => {
    assert.match(await refusal(() => openSource(`${dir}/a.png`)), /it is a single image or text$/);
    assert.match(await refusal(() => openSource(`${dir}/a.csv`)), /it is none of the known files$/);
  });
  await withFolder({ "a.jsonl": "" }, async (dir) => {
    assert.match(await refusal(() => openSource(dir, { format: "vlm" })), /it has no record$/);
    assert.match(await refusal(() => openSource(dir, { format: "t2i" })), /has no \.parquet file/);
    assert.match(
      await refusal(() => openSource(`${dir}/a.jsonl`, { format: "folder" })),
      /it is not a folder/,
    );
  });
  assert.match(
    await refusal(() => openSource("no/such")),
    /Cannot read training data no\/such: No such/,
  );
});
