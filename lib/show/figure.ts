// What every figure shares: the record it is (Plotly traces and layout, caption, alt text), the fixed look of each
// arm, widths and type size, and how numbers and text are written.

import type { Layout, PlotData } from "plotly.js";

/** One Plotly trace; `meta` names its panel in the csv (legends have none). */
export type Series = Partial<PlotData> & { meta?: string };

/** A finished figure; `saveFigure` writes it, `show` displays it. */
export interface Figure {
  title: string;
  data: Series[];
  layout: Partial<Layout> & { width: number; height: number };
  /** Generated from the numbers, never typed. */
  caption: string;
  /** True when the caption stands in the drawing itself; a page around it need not repeat it. */
  captionDrawn?: boolean;
  /** The same facts for those who cannot see it. */
  alt: string;
}

/** A value with its 95 % interval; without an interval only the point is drawn. */
export interface Estimate {
  mean: number;
  low?: number;
  high?: number;
}

/** How an arm is drawn: it reads in colour and in grey. */
export interface ArmStyle {
  color: string;
  symbol: string;
  dash: "solid" | "dash" | "dot" | "dashdot" | "longdash" | "longdashdot";
}

/** Fixed for good: the same arm looks the same in every figure. */
export const ARM_STYLES = {
  "untrained": { color: "#000000", symbol: "circle-open", dash: "dot" },
  "und": { color: "#0072B2", symbol: "circle", dash: "dash" },
  "und+": { color: "#56B4E9", symbol: "diamond", dash: "longdash" },
  "gen": { color: "#D55E00", symbol: "triangle-up", dash: "dashdot" },
  "joint": { color: "#009E73", symbol: "square", dash: "solid" },
  "joint-no-gen-loss": { color: "#CC79A7", symbol: "x", dash: "longdashdot" },
  "joint-shuffled": { color: "#999999", symbol: "cross", dash: "dot" },
  "blocked": { color: "#E69F00", symbol: "triangle-down", dash: "longdashdot" },
} as const satisfies Record<string, ArmStyle>;

/** The arms that have a fixed look. */
export type Arm = keyof typeof ARM_STYLES;

/**
 * The look of an arm.
 *
 * @throws {RangeError} If the arm has none
 */
export function armStyle(arm: string): ArmStyle {
  if (!Object.hasOwn(ARM_STYLES, arm)) {
    throw new RangeError(
      `Cannot draw arm "${arm}": known are ${Object.keys(ARM_STYLES).join(", ")}`,
    );
  }
  return ARM_STYLES[arm as Arm];
}

/** Page widths in CSS pixels at 96 per inch: one column and a full page. */
export const WIDTHS = { column: 312, page: 648 } as const; // 3.25 in, 6.75 in

/** 8 pt in CSS pixels. */
export const FONT_SIZE = 8 * 96 / 72;

/** Narrow enough for panels, present on most systems; the last names are what Debian has. */
export const FONT = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif";

/** Ink for axes, and for what must not stand out. */
export const INK = { axis: "#333333", faint: "#8a8a8a", grid: "#e8e8e8" } as const;

/** Escapes text for HTML, and for Plotly's texts, which read a few tags. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** Text without tags. */
export const plain = (html: string): string =>
  html.replace(/<br>/g, " ").replace(/<[^>]*>/g, "").replace(
    /&#(\d+);/g,
    (_, n) => String.fromCharCode(Number(n)),
  );

/** Width of text in CSS pixels in a wide sans-serif (DejaVu Sans): real fonts are not wider. */
export function textWidth(text: string, fontSize: number): number {
  let em = 0;
  for (const c of text) {
    if ("iljI.,:;'|! ".includes(c)) em += 0.33;
    else if ("frt()[]/-".includes(c)) em += 0.4;
    else if ("mwMW%@—".includes(c)) em += 0.95;
    else if (c >= "A" && c <= "Z") em += 0.7;
    else em += c.codePointAt(0)! > 0x2000 ? 0.8 : 0.62;
  }
  return em * fontSize;
}

/** Text broken into lines of at most `width` CSS pixels; a longer word has a line of its own. */
export function wrapText(text: string, width: number, fontSize: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && textWidth(longer, fontSize) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Text in one line where it has `width` CSS pixels, else in two that are about as long. */
export function inTwoLines(text: string, width: number, fontSize: number): string[] {
  const whole = textWidth(text, fontSize);
  if (whole <= width) return [text];
  for (let half = whole / 2;; half += 2) {
    const lines = wrapText(text, half, fontSize);
    if (lines.length <= 2) return lines;
  }
}

/** Percent with one decimal: 0.8123 → "81.2 %". */
export const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;

/** A difference in points with its sign: 0.031 → "+3.1 points". */
export const pointsOf = (value: number): string =>
  `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)} points`;
