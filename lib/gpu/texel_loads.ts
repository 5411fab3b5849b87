// Rewrites a kernel so that it reads its read-only storage as texels. Software adapters load storage one lane
// after the other and texels all lanes at once, several times faster; WGSL written for storage stays as it is.

import { TEXEL_COLUMNS } from "./texel_copies.ts";
import type { Declared } from "./declarations.ts";

/** Bodies of a load of element `i` from texels of 16 bytes, by element type. `T` is the texel that holds it. */
const LOADS: Record<string, string> = {
  vec4f: "return bitcast<vec4f>(T);",
  vec4u: "return T;",
  vec4i: "return bitcast<vec4i>(T);",
  vec2f: "let t = bitcast<vec4f>(T); return select(t.xy, t.zw, (i & 1u) == 1u);",
  f32: "let t = bitcast<vec4f>(T); let s = select(t.xy, t.zw, (i & 2u) == 2u); " +
    "return select(s.x, s.y, (i & 1u) == 1u);",
  u32: "let t = T; let s = select(t.xy, t.zw, (i & 2u) == 2u); " +
    "return select(s.x, s.y, (i & 1u) == 1u);",
  i32: "let t = bitcast<vec4i>(T); let s = select(t.xy, t.zw, (i & 2u) == 2u); " +
    "return select(s.x, s.y, (i & 1u) == 1u);",
};

/** Elements that share a texel, as a power of two. */
const SHIFTS: Record<string, number> = {
  vec4f: 0,
  vec4u: 0,
  vec4i: 0,
  vec2f: 1,
  f32: 2,
  u32: 2,
  i32: 2,
};

/** A kernel that reads texels. */
export interface TexelKernel {
  /** The main file and its parts, line by line as they were. */
  files: string[];
  /** The functions it calls, to be joined behind everything else. */
  loads: string;
  declared: Declared[];
}

/**
 * Turns every `var<storage, read> x: array<T>` of T = f32, u32, i32, vec2f, vec4f, vec4i or vec4u into a
 * `texture_2d<u32>` with 16 bytes to a texel and {@link TEXEL_COLUMNS} texels to a row, and every `x[i]` into a load
 * of element i. Other element types stay storage.
 *
 * @param main the main file of a kernel, its knobs set; names of bindings must not be reused for local arrays
 * @param parts files joined behind it; one that declares a name of a binding for itself means its own
 */
export function readTexels(
  main: string,
  parts: readonly string[],
  declared: readonly Declared[],
): TexelKernel {
  let text = main;
  let rest = [...parts];
  let loads = "";
  const changed = declared.map((binding): Declared => {
    if (binding.type !== "read-only-storage") return binding;
    const { name } = binding;
    const found = new RegExp(`var<storage,\\s*read>\\s*${name}\\s*:\\s*array<(\\w+)>`).exec(text);
    const alias = found && new RegExp(`\\balias\\s+${found[1]}\\s*=\\s*(\\w+)`).exec(text)?.[1];
    const type = alias || found?.[1];
    if (!found || !type || !(type in LOADS)) return binding;
    text = text.replace(found[0], `var ${name}: texture_2d<u32>`);
    text = callsFor(text, name);
    const own = new RegExp(`(?<![\\w.])${name}\\s*:|\\b(let|var)\\s+${name}\\b`);
    rest = rest.map((part) => own.test(part) ? part : callsFor(part, name));
    const shift = SHIFTS[type];
    const at = shift === 0 ? "i" : `(i >> ${shift}u)`;
    const position = `vec2u(${at} % ${TEXEL_COLUMNS}u, ${at} / ${TEXEL_COLUMNS}u)`;
    const body = LOADS[type].replace("T", `textureLoad(${name}, ${position}, 0)`);
    loads += `fn texel_of_${name}(i: u32) -> ${type} { ${body} }\n`;
    return { ...binding, type: "rgba32uint" };
  });
  return { files: [text, ...rest], loads, declared: changed };
}

/** Every `name[…]` outside comments as `texel_of_name(u32(…))`. */
function callsFor(text: string, name: string): string {
  const start = new RegExp(`(?<![\\w.])${name}\\[`, "g");
  let out = "";
  let last = 0;
  for (let match = start.exec(text); match; match = start.exec(text)) {
    const line = text.slice(text.lastIndexOf("\n", match.index) + 1, match.index);
    if (line.includes("//")) continue;
    let depth = 1;
    let end = start.lastIndex;
    for (; depth > 0 && end < text.length; end++) {
      if (text[end] === "[") depth++;
      else if (text[end] === "]") depth--;
    }
    const inner = callsFor(text.slice(start.lastIndex, end - 1), name);
    out += `${text.slice(last, match.index)}texel_of_${name}(u32(${inner}))`;
    last = start.lastIndex = end;
  }
  return out + text.slice(last);
}
