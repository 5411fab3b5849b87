// The report of `deno task data check`: counts, histograms, and findings by kind.

import type { CheckReport } from "../data/training/check.ts";
import { type Finding, FINDING_KINDS, type FindingKind } from "../data/training/check_findings.ts";
import type { Histogram, TokenRules } from "../data/training/check_tally.ts";
import type { RecordSource } from "../data/training/source.ts";
import { countText, tableText } from "./checkpoint_text.ts";

/** Counts findings of each kind and keeps the first few. */
export class FindingList {
  readonly kinds = new Map<FindingKind, { count: number; first: Finding[] }>();
  errors = 0;
  warnings = 0;

  /** @param most findings of a kind that are kept, each of another message */
  constructor(private readonly most: number) {}

  /** Counts a finding. */
  add(finding: Finding): void {
    const kind = this.kinds.get(finding.kind) ?? { count: 0, first: [] };
    this.kinds.set(finding.kind, kind);
    // Many records may use one bad image: it is shown once.
    const isShown = kind.first.some(({ message }) => message === finding.message);
    if (kind.first.length < this.most && !isShown) kind.first.push(finding);
    kind.count++;
    if (finding.level === "error") this.errors++;
    else this.warnings++;
  }
}

/** Text of data as one line for a terminal: control characters are written out. */
export function plain(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The report for programs. */
export function summaryOf(
  { path, format, count, fingerprint }: RecordSource,
  { tally, bad, unreadAgainst, leaks }: CheckReport,
  { errors, warnings, kinds }: FindingList,
) {
  const named = (counts: Map<string, number>) => Object.fromEntries(counts);
  return {
    path,
    format,
    fingerprint,
    records: count,
    bad,
    unread: tally.unread,
    ...Object.fromEntries(Object.entries(tally.by).map(([key, map]) => [key, named(map)])),
    images: { uses: tally.uses, files: tally.files, different: tally.images },
    tokens: numbersOf(tally.tokens),
    sides: numbersOf(tally.sides),
    leaks,
    unreadAgainst,
    errors,
    warnings,
    findings: Object.fromEntries([...kinds].map(([kind, { count }]) => [kind, count])),
  };
}

function numbersOf(histogram: Histogram) {
  if (histogram.total === 0) return { total: 0, bins: [] };
  const [least, median, p95, most] = [0, 0.5, 0.95, 1].map((p) => histogram.quantile(p));
  return { total: histogram.total, least, median, p95, most, bins: histogram.bins() };
}

/** Most names of a modality or data set in the report. */
const MOST_NAMES = 12;

/** The report for people. */
export function reportText(
  { path, format, count }: RecordSource,
  { tally, bad, leaks }: CheckReport,
  found: FindingList,
  { tokenizer, vae, vit }: TokenRules,
): string {
  const { uses, files, images } = tally;
  const lines = [
    `${plain(path)} (${format}): ${many(count, "record")}, ${many(uses, "use")} of ` +
    `${many(files, "image file")}, ${countText(images)} different`,
    "",
    ...Object.entries(tally.by).map(([key, counts]) => `${key.padEnd(9)}${namesText(counts)}`),
  ];
  const sizes = (["vae", "vit"] as const).map((side) => {
    const { min, max, stride } = { vae, vit }[side];
    return `${side} ${min}-${max}/${stride}`;
  });
  const counted = tokenizer ? "" : ", texts at 4 characters each";
  lines.push(
    ...chart(`tokens per record (${sizes.join(", ")}${counted})`, tally.tokens),
    ...chart("shorter side of images, pixels", tally.sides),
    "",
  );
  for (const { splits: [lower, higher], same, images, records } of leaks) {
    lines.push(
      `${many(images, "image")} of ${lower} ${same ? "also in" : "looking like some of"} ` +
        `${higher}: ${many(records[0], "record")} of ${lower}, ${
          countText(records[1])
        } of ${higher}`,
    );
  }
  if (leaks.length > 0) lines.push("");
  const kinds = Object.keys(FINDING_KINDS) as FindingKind[];
  for (const kind of kinds) lines.push(...kindText(kind, found));
  lines.push(
    found.errors + found.warnings === 0
      ? "nothing found"
      : `${many(found.errors, "error")} in ${many(bad, "record")}, ${
        many(found.warnings, "warning")
      }`,
  );
  return lines.join("\n");
}

function many(n: number, what: string): string {
  return `${countText(n)} ${what}${n === 1 ? "" : "s"}`;
}

function namesText(counts: Map<string, number>): string {
  const sorted = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const shown = sorted.slice(0, MOST_NAMES).map(([name, n]) => `${plain(name)} ${countText(n)}`);
  if (sorted.length > MOST_NAMES) shown.push(`and ${sorted.length - MOST_NAMES} more`);
  return shown.join(", ") || "none";
}

const BAR = 32;

function chart(title: string, histogram: Histogram): string[] {
  if (histogram.total === 0) return [];
  const [least, median, p95, most] = [0, 0.5, 0.95, 1]
    .map((p) => countText(histogram.quantile(p)));
  const bins = histogram.bins();
  const tallest = Math.max(...bins.map(({ count }) => count));
  const rows = bins.map(({ from, to, count }) => [
    `  ${countText(from)} to ${countText(to)}`,
    countText(count),
    "█".repeat(Math.ceil(BAR * count / tallest)),
  ]);
  const range = `${least} to ${most}, median ${median}, 95 % up to ${p95}`;
  return ["", `${title}: ${range}`, ...tableText(rows).split("\n")];
}

function kindText(kind: FindingKind, { kinds }: FindingList): string[] {
  const found = kinds.get(kind);
  if (!found) return [];
  const { level, title } = FINDING_KINDS[kind];
  const lines = [`${level}: ${title} (${kind}): ${countText(found.count)}`];
  for (const { where, field, message } of found.first) {
    const place = message.includes(where) ? "" : `${where}${field ? `, ${field}` : ""}: `;
    lines.push(`  ${plain(place + message)}`);
  }
  if (found.count > found.first.length && found.first.length > 0) {
    lines.push(`  and ${countText(found.count - found.first.length)} more`);
  }
  const [help, ...others] = new Set(found.first.map(({ help }) => help));
  if (help !== undefined) {
    lines.push(`  help: ${others.length > 0 ? FINDING_KINDS[kind].help : help}`);
  }
  return [...lines, ""];
}
