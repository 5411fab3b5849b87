// Run by setup in a process of its own: do the packages with native code load here, and are there fonts to draw
// figures with? Without fonts every letter is the same box or nothing. Prints one JSON line.

async function versions(): Promise<{ sharp: string; text: boolean }> {
  const { default: sharp } = await import("sharp");
  await import("onnxruntime-node");
  const ink = async (letter: string) => {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">
      <text x="5" y="30" font-size="24" font-family="Arial, DejaVu Sans, sans-serif">${letter}</text></svg>`;
    const pixels = await sharp(new TextEncoder().encode(svg)).ensureAlpha().raw().toBuffer();
    return pixels.filter((value, i) => i % 4 === 3 && value > 127).length;
  };
  const [narrow, wide] = [await ink("i"), await ink("W")];
  return { sharp: sharp.versions.sharp ?? "?", text: wide > narrow && narrow > 0 };
}

try {
  console.log(JSON.stringify(await versions()));
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }));
}
