// What is wrong with one record by itself: parts that are missing, and the paper's coarse filter (images of
// at least 128 pixels, texts of 10 to 1024 characters).

import { fieldOf, type Finding, FINDING_KINDS, type FindingKind } from "./check_findings.ts";
import type { InspectedRecord, TrainingRecord } from "./record.ts";
import type { RecordSource } from "./source.ts";

/** Limits of the coarse filter. */
export interface RecordLimits {
  /** Shorter side of an image, in pixels; 0 allows all. */
  minSide: number;
  /** Characters of a text: of each where a record has wordings to choose from, else of all together. */
  minText: number;
  maxText: number;
  /** Tokens of a sample; default: any number. */
  maxTokens?: number;
}

/** The filter of UniMedVL-5M. */
export const PAPER_LIMITS = { minSide: 128, minText: 10, maxText: 1024 };

/** Formats whose texts are wordings of the same, of which training draws one. */
const WORDINGS: readonly string[] = ["t2i", "edit"];

/** Makes findings about a record. */
export class RecordCheck {
  constructor(
    private readonly source: RecordSource,
    private readonly index: number,
    private readonly where: string,
  ) {}

  /** A finding. @param more the field, the other record, or a better help */
  finding(
    kind: FindingKind,
    message: string,
    more: Partial<Pick<Finding, "field" | "other" | "help">> = {},
  ): Finding {
    const { level, help } = FINDING_KINDS[kind];
    return { kind, level, index: this.index, where: this.where, message, help, ...more };
  }

  /** Parts that the record's task needs and that it lacks, and texts that say nothing. */
  missing({ task, texts, images }: InspectedRecord): Finding[] {
    const found: Finding[] = [];
    const { format } = this.source;
    const lacks = (what: "text" | "image", role: "input" | "output") => {
      const has = what === "image" ? images : texts;
      if (has.some((part) => part.role === role)) return;
      const side = role === "input" ? "given" : "to be learned";
      const field = fieldOf(format, what, role);
      found.push(this.finding("missing", `${task} without ${what} that is ${side}`, { field }));
    };
    texts.forEach(({ text, role }, i) => {
      if (text.trim() !== "") return;
      const field = fieldOf(format, "text", role);
      found.push(this.finding("missing", `text ${i + 1} (${role}) is empty`, { field }));
    });
    if (task === "t2i") lacks("text", "input");
    if (task === "t2i" || task === "interleaved") lacks("image", "output");
    if (task === "i2t" || task === "interleaved") lacks("image", "input");
    if (task === "i2t" || task === "text") lacks("text", "output");
    return found;
  }

  /** Texts outside the limits. */
  textLengths({ texts }: InspectedRecord, { minText, maxText }: RecordLimits): Finding[] {
    const { format } = this.source;
    const lengths = texts.map(({ text }) => [...text.trim()].length).filter((n) => n > 0);
    const all = lengths.reduce((sum, n) => sum + n, 0);
    const judged = WORDINGS.includes(format) ? lengths : lengths.length > 0 ? [all] : [];
    const wrong = judged.filter((n) => n < minText || n > maxText);
    if (wrong.length === 0) return [];
    const field = fieldOf(format, "text", texts[0].role);
    const message = `${wrong.join(", ")} characters, expected ${minText} to ${maxText}`;
    return [this.finding("text", message, { field })];
  }

  /** An image under the limit. */
  imageSize(
    { image, role }: InspectedRecord["images"][number],
    { width, height }: { width: number; height: number },
    { minSide }: RecordLimits,
  ): Finding[] {
    if (Math.min(width, height) >= minSide) return [];
    const message = `${image.name} is ${width}x${height}, expected at least ${minSide} a side`;
    return [this.finding("small", message, { field: fieldOf(this.source.format, "image", role) })];
  }

  /** Whether nothing of a record would be learned. */
  nothingToLearn(record: TrainingRecord): Finding[] {
    const learns = record.parts.some((part) =>
      part.type === "text" ? part.loss && part.text.trim() !== "" : part.use === "noisy"
    );
    if (learns) return [];
    return [this.finding("missing", "it has neither a text nor an image to be learned")];
  }
}
