// `deno task data check PATH`: flags, the data sets that are opened, the report, and the list of bad records.

import { checkData, type CheckOptions, NEAR_BITS } from "../data/training/check.ts";
import type { Finding } from "../data/training/check_findings.ts";
import { PAPER_LIMITS } from "../data/training/check_record.ts";
import { DEFAULT_TOKEN_RULES } from "../data/training/check_tally.ts";
import { openSource } from "../data/training/open_source.ts";
import { type RecordSource, SOURCE_FORMATS, type SourceFormat } from "../data/training/source.ts";
import { openTokenizer } from "../data/tokenizer.ts";
import type { SizeRule } from "../data/transforms.ts";
import { EXIT, UsageError } from "../errors.ts";
import { type CommandSpec, type Context, processShell, runCommand, type Shell } from "./command.ts";
import { BadList } from "./data_bad_list.ts";
import { FindingList, plain, reportText, summaryOf } from "./data_check_text.ts";
import { LateProgress } from "./late_progress.ts";
import type { Flags } from "./flags.ts";

const FLAGS = {
  against: {
    type: "list",
    unit: "PATH,…",
    help: "data that must share nothing with PATH, such as a test set of its own",
  },
  fix: { type: "boolean", help: "list the records with errors in a file; PATH is never changed" },
  out: { type: "string", unit: "FILE", default: "bad.jsonl", help: "where --fix writes the list" },
  format: {
    type: "string",
    default: "auto",
    choices: ["auto", ...SOURCE_FORMATS, "phantoms"],
    help: "what PATH is",
  },
  split: { type: "string", choices: ["train", "val", "test"], help: "only records of this split" },
  images: { type: "string", unit: "DIR", help: "where image paths of JSONL start" },
  tokenizer: {
    type: "string",
    unit: "DIR",
    help: "counts tokens with the tokenizer of a checkpoint; else 4 characters count as one",
  },
  vae: { type: "string", unit: "MIN-MAX/TOKEN", help: "pixels a side of images that are drawn" },
  vit: { type: "string", unit: "MIN-MAX/TOKEN", help: "pixels a side of images that are read" },
  maxTokens: { type: "integer", unit: "tokens", min: 1, help: "warn of larger samples" },
  minSide: {
    type: "integer",
    unit: "pixels",
    min: 0,
    default: PAPER_LIMITS.minSide,
    help: "warn of smaller images",
  },
  textLength: {
    type: "string",
    unit: "MIN-MAX",
    default: `${PAPER_LIMITS.minText}-${PAPER_LIMITS.maxText}`,
    help: "warn of texts with fewer or more characters",
  },
  near: {
    type: "integer",
    unit: "bits",
    min: 0,
    default: NEAR_BITS,
    help:
      "images whose looks differ in at most so many of 256 bits look the same; 0: do not compare",
  },
  workers: {
    type: "integer",
    unit: "threads",
    min: 0,
    help: "decode images; default: one less than processors, at most 8",
  },
  list: {
    type: "integer",
    unit: "findings",
    min: 0,
    default: 5,
    help: "of each kind in the report; --json gives all",
  },
} as const satisfies Flags;

const { vae, vit } = DEFAULT_TOKEN_RULES;

const SPEC = {
  name: "data check",
  purpose: "Check training data: counts, lengths, images, missing parts, copies, leaks.",
  usage: "PATH [flags]",
  flags: FLAGS,
  positionals: { min: 1, max: 1, names: ["PATH"] },
  examples: [
    ["deno task data check data/train.jsonl --against data/test.jsonl", "shares it anything?"],
    ["deno task data check data --fix --out bad.jsonl", "list what training should leave out"],
  ],
  exitCodes: { 3: "there are errors, or PATH cannot be opened", 4: "the list cannot be written" },
} as const satisfies CommandSpec<typeof FLAGS>;

/** Runs `deno task data check`. */
export async function dataCheckCommand(shell: Shell = processShell()): Promise<void> {
  await runCommand(SPEC, main, shell);
}

/** Most bits in which pictures may differ and still be found by the index's guarantee. */
const MAX_NEAR = 64;

async function main(context: Context<typeof FLAGS>): Promise<number> {
  const { args: [path], flags, emit, print, warn, signal } = context;
  const options = await readOptions(context);
  const sources: RecordSource[] = [];
  try {
    sources.push(await open(path, flags.format, flags));
    for (const other of flags.against ?? []) sources.push(await open(other, "auto", {}));
    const [source, ...against] = sources;
    await using bad = flags.fix ? await BadList.open(flags.out, source) : undefined;
    const found = new FindingList(flags.list);
    const onFinding = (finding: Finding) => {
      found.add(finding);
      bad?.add(finding);
      emit({ event: "finding", ...finding });
    };
    const progress = new LateProgress(context, "checking");
    const onProgress = (what: string, done: number, total: number) =>
      progress.update({
        label: what,
        step: done,
        total,
        fields: { errors: String(found.errors), warnings: String(found.warnings) },
      });
    const report = await checkData(source, { ...options, against, onFinding, onProgress, signal })
      .finally(() => progress.done());
    const summary = summaryOf(source, report, found);
    emit({ event: "summary", ...summary });
    print(reportText(source, report, found, options.tokens));
    if (report.unreadAgainst > 0) {
      warn(`${report.unreadAgainst} records or images of --against could not be read`);
    }
    if (bad) {
      const rows = await bad.finish();
      emit({ event: "list", path: flags.out, rows, records: report.bad });
      print(`${plain(flags.out)} lists ${report.bad} records`);
    }
    return found.errors > 0 ? EXIT.input : EXIT.done;
  } finally {
    for (const source of sources) source.close();
  }
}

async function open(
  path: string,
  format: SourceFormat | "phantoms" | "auto",
  { split, images }: { split?: "train" | "val" | "test" | undefined; images?: string | undefined },
): Promise<RecordSource> {
  return await openSource(path.replace(/(.)\/+$/, "$1"), {
    format,
    ...(split === undefined ? {} : { split }),
    ...(images === undefined ? {} : { images }),
  });
}

async function readOptions(
  { flags }: Context<typeof FLAGS>,
): Promise<Pick<CheckOptions, "limits" | "tokens" | "near" | "workers">> {
  const [minText, maxText] = readRange("--text-length", flags.textLength, /^(\d+)-(\d+)$/);
  if (flags.near > MAX_NEAR) {
    throw new UsageError(
      `Cannot compare images up to ${flags.near} bits: unrelated ones differ in less`,
      { help: `give --near 0 to ${MAX_NEAR}; copies differ in up to ${NEAR_BITS}` },
    );
  }
  const tokenizer = flags.tokenizer === undefined
    ? {}
    : { tokenizer: await openTokenizer(flags.tokenizer) };
  return {
    limits: {
      minSide: flags.minSide,
      minText,
      maxText,
      ...(flags.maxTokens === undefined ? {} : { maxTokens: flags.maxTokens }),
    },
    tokens: {
      ...tokenizer,
      vae: readRule("--vae", flags.vae, vae),
      vit: readRule("--vit", flags.vit, vit),
    },
    near: flags.near,
    workers: flags.workers ?? Math.min(8, Math.max(1, navigator.hardwareConcurrency - 1)),
  };
}

function readRule(flag: string, text: string | undefined, usual: SizeRule): SizeRule {
  if (text === undefined) return usual;
  const [min, max, stride] = readRange(flag, text, /^(\d+)-(\d+)\/(\d+)$/);
  if (min > 0 && stride > 0) return { ...usual, min, max, stride };
  throw new UsageError(`Cannot read ${flag} ${text}: sizes are above 0`);
}

function readRange(flag: string, text: string, pattern: RegExp): number[] {
  const numbers = pattern.exec(text)?.slice(1).map(Number);
  if (numbers && numbers[0] <= numbers[1]) return numbers;
  const wanted = pattern.source.includes("/") ? "MIN-MAX/TOKEN such as 512-1024/16" : "MIN-MAX";
  throw new UsageError(`Cannot read ${flag} ${text}: expected ${wanted}`);
}
