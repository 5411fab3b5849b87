import assert from "node:assert/strict";
import sharp from "sharp";
import { readImage } from "../../lib/data/image.ts";
import { demoFigure } from "../../lib/show/demo_figure.ts";
import { csvCell, figureCsv, figureHtml, saveFigure } from "../../lib/show/export.ts";
import { writeWhole } from "../../lib/write_whole.ts";
import { rasterize, renderSvg } from "../../lib/show/render.ts";
import { lossFigure } from "../../lib/show/curves.ts";
import { encodePng } from "../../lib/show/png.ts";
import { sampleDemoResult } from "./demo_sample.ts";

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

// Plotly in jsdom leaves timers behind.
const DRAWING = { sanitizeOps: false, sanitizeResources: false };

Deno.test("saveFigure() writes five files, twice the same bytes", DRAWING, async () => {
  await withFolder(async (folder) => {
    const first = await saveFigure(demoFigure(sampleDemoResult()), `${folder}/a/demo`);
    const other = await saveFigure(demoFigure(sampleDemoResult()), `${folder}/b/demo`);
    assert.deepEqual(first.map((p) => p.split(".").at(-1)), ["html", "svg", "png", "csv", "json"]);
    for (const [i, path] of first.entries()) {
      assert.deepEqual(await Deno.readFile(path), await Deno.readFile(other[i]), path);
    }
    const left = [...Deno.readDirSync(`${folder}/a`)].filter((e) => e.name.endsWith(".tmp"));
    assert.deepEqual(left, []);

    const meta = await sharp(await Deno.readFile(first[2])).metadata();
    const { layout } = demoFigure(sampleDemoResult());
    assert.deepEqual([meta.width, meta.height], [2 * layout.width, 2 * layout.height]);
    const svg = await Deno.readTextFile(first[1]);
    for (const text of ["(a) Planted world", "inconclusive:", "data:image/png;base64,", "<desc>"]) {
      assert.ok(svg.includes(text), text);
    }
    const spec = JSON.parse(await Deno.readTextFile(first[4]));
    assert.equal(spec.caption, demoFigure(sampleDemoResult()).caption);
  });
});

Deno.test("renderSvg() draws letters, not boxes, once it is a picture", DRAWING, async () => {
  const ink = async (title: string) => {
    const figure = lossFigure([{ arm: "und", steps: [1, 2], ce: [2, 1] }], title);
    const { data, info } = await sharp(await rasterize(await renderSvg(figure), 1))
      .extract({ left: 0, top: 0, width: 648, height: 22 })
      .flatten({ background: "#fff" }).greyscale().raw().toBuffer({ resolveWithObject: true });
    assert.equal(info.width, 648);
    return data.reduce((n: number, v: number) => n + (v < 128 ? 1 : 0), 0);
  };
  const [narrow, wide] = [await ink("iiiiiiii"), await ink("WWWWWWWW")];
  assert.ok(narrow > 20 && wide > 2 * narrow, `${narrow} and ${wide} dark pixels`);
});

Deno.test("renderSvg() refuses what needs a canvas", DRAWING, async () => {
  const figure = lossFigure([{ arm: "und", steps: [1], ce: [1] }]);
  figure.data.push({ type: "heatmap" });
  await assert.rejects(renderSvg(figure), /Cannot draw a heatmap trace as SVG: use scatter or bar/);
});

Deno.test("figureHtml() escapes titles and captions and cannot be ended early", () => {
  const bad = `</script><script>alert(1)</script>"`;
  const figure = {
    ...lossFigure([{ arm: "und", steps: [1], ce: [1] }]),
    title: bad,
    caption: bad,
    alt: bad,
  };
  figure.layout.title = { text: bad };
  const html = figureHtml(figure, "const a = '</script>';");
  assert.equal(html.match(/<script>/g)?.length, 2);
  assert.equal(html.match(/<\/script>/g)?.length, 2);
  assert.ok(!html.includes("alert(1)</script>"));
  assert.ok(!/<(script|link)[^>]+(src|href)=/.test(html), "the page must stand alone");
});

Deno.test("figureCsv() has one row per plotted point, with its interval", () => {
  const csv = figureCsv(demoFigure(sampleDemoResult())).trim().split("\n");
  assert.equal(csv[0], "panel,series,label,x,y,x_low,x_high,y_low,y_high");
  const row = csv.find((l) => l.startsWith("(a)") && l.includes(",joint,modality"))!.split(",");
  assert.deepEqual(row.slice(4, 7), ["0.86", "", ""]);
  assert.ok(Math.abs(Number(row[7]) - 0.84) < 1e-9 && Math.abs(Number(row[8]) - 0.88) < 1e-9);
  assert.ok(!csv.some((l) => l.startsWith(",")), "the legend is not data");
  assert.equal(csv.filter((l) => l.includes("Planted: answers")).length, 3 * 40);
});

Deno.test("csvCell() quotes, and disarms formulas but not numbers", () => {
  assert.equal(csvCell("=cmd()"), "'=cmd()");
  assert.equal(csvCell("@x"), "'@x");
  assert.equal(csvCell(-0.5), "-0.5");
  assert.equal(csvCell('a,"b"\n'), '"a,""b""\n"');
  assert.equal(csvCell(null), "");
});

Deno.test("writeWhole() leaves no half file when it fails", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/taken`);
    await assert.rejects(writeWhole(`${folder}/taken`, "text")); // a folder cannot be replaced by a file
    assert.deepEqual([...Deno.readDirSync(folder)].map((e) => e.name), ["taken"]);
    await writeWhole(`${folder}/file`, "one");
    await writeWhole(`${folder}/file`, "two");
    assert.equal(await Deno.readTextFile(`${folder}/file`), "two");
  });
});

Deno.test(
  "a figure is drawn after images were read, and SVG stays refused as an image",
  DRAWING,
  async () => {
    await readImage(encodePng({ width: 1, height: 1, rgb: new Uint8Array(3) }));
    const svg = await renderSvg(lossFigure([{ arm: "und", steps: [1, 2], ce: [2, 1] }]));
    assert.ok((await rasterize(svg)).length > 1000);
    await assert.rejects(readImage(new TextEncoder().encode(svg), "figure.svg"), /figure\.svg/);
  },
);
