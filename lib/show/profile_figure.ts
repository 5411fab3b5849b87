// A profile as a figure: where the time of a run goes, kernel by kernel.

import { escapeHtml, type Figure, FONT_SIZE, percent, textWidth, WIDTHS } from "./figure.ts";
import { type ProfileRow, rateText } from "./profile_table.ts";
import { addAxes, addText, openSheet, trace } from "./sheet.ts";

/** Kernels drawn one by one, at most; the others are one bar. */
const MOST_BARS = 20;
const BAR = 16; // CSS pixels from bar to bar

/**
 * Horizontal bars of device time, the slowest kernel on top, with share, GFLOP/s and GB/s beside each; all of it again
 * where the pointer is.
 *
 * @param rows as `Profile.table()` gives them, the slowest first
 * @throws {RangeError} If there are no rows
 */
export function profileFigure(rows: readonly ProfileRow[], title = "Time by kernel"): Figure {
  if (rows.length === 0) throw new RangeError("Cannot draw a profile without a single kernel");
  const bars = barsOf(rows);
  const texts = bars.map(beside);
  const left = 24 + Math.max(...bars.map((row) => textWidth(row.label, FONT_SIZE)));
  const room = 16 + Math.max(...texts.map((text) => textWidth(text, FONT_SIZE)));
  const width = Math.max(120, WIDTHS.page - left - room);
  const box = { left, top: 34, width, height: BAR * bars.length };
  const sheet = openSheet(left + width + room, box.top + box.height + 52);
  const slots = bars.map((_, i) => bars.length - 1 - i); // the first on top
  const panel = { index: ++sheet.axes, box, title };
  addText(sheet.layout, `<b>${escapeHtml(title)}</b>`, { left: 10, top: box.top - 10 });
  addAxes(sheet.layout, panel, {
    x: {
      title: "ms on the device",
      range: [0, 1.02 * Math.max(...bars.map((r) => r.milliseconds))],
    },
    y: {
      range: [-0.5, bars.length - 0.5],
      ticks: { at: slots, text: bars.map((row) => escapeHtml(row.label)) },
    },
  });
  sheet.data.push(trace(panel, {
    type: "bar",
    orientation: "h",
    name: "device time",
    x: bars.map((row) => row.milliseconds),
    y: slots,
    text: bars.map((row) => row.label),
    textposition: "none",
    width: 0.7,
    marker: { color: "#0072B2" },
    hovertext: bars.map((row, i) =>
      `<b>${escapeHtml(row.label)}</b><br>${row.calls} calls, ${
        row.milliseconds.toFixed(1)
      } ms<br>${texts[i]}`
    ),
    hoverinfo: "text",
  }));
  const end = left + width + 8;
  texts.forEach((text, i) =>
    addText(sheet.layout, text, { left: end, top: box.top + BAR * (i + 0.5) }, {
      yanchor: "middle",
    })
  );
  const caption = captionOf(rows);
  return { title, data: sheet.data, layout: sheet.layout, caption, alt: `Bars. ${caption}` };
}

/** The slowest rows, and the others as one. */
function barsOf(rows: readonly ProfileRow[]): ProfileRow[] {
  if (rows.length <= MOST_BARS) return [...rows];
  const rest = rows.slice(MOST_BARS - 1);
  const sum = (of: (row: ProfileRow) => number) => rest.reduce((n, row) => n + of(row), 0);
  return [...rows.slice(0, MOST_BARS - 1), {
    label: `${rest.length} others`,
    calls: sum((row) => row.calls),
    milliseconds: sum((row) => row.milliseconds),
    firstMilliseconds: sum((row) => row.firstMilliseconds),
    gflops: null,
    gbps: null,
    share: sum((row) => row.share),
  }];
}

/** `41.2 %, 23.1 GFLOP/s, 1.20 GB/s`, as far as known. */
function beside({ share, gflops, gbps }: ProfileRow): string {
  const parts = [percent(share)];
  if (gflops !== null) parts.push(`${rateText(gflops)} GFLOP/s`);
  if (gbps !== null) parts.push(`${rateText(gbps)} GB/s`);
  return parts.join(", ");
}

function captionOf(rows: readonly ProfileRow[]): string {
  const calls = rows.reduce((n, row) => n + row.calls, 0);
  const ms = rows.reduce((n, row) => n + row.milliseconds, 0);
  const first = rows.slice(0, 3).map((row) => `${row.label} ${percent(row.share)}`).join(", ");
  return `${calls} commands of ${rows.length} kernels, ${
    ms.toFixed(1)
  } ms on the device: ${first}.`;
}
