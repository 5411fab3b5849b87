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
  inPlace: readonly string[] = [],
): TexelKernel {
  let text = main;
  let rest = [...parts];
  let loads = "";
  const added: Declared[] = [];
  const changed = declared.map((binding): Declared => {
    const { name } = binding;
    const both = inPlace.includes(name);
    if (binding.type !== "read-only-storage" && !both) return binding;
    const found = new RegExp(`var<storage,\\s*\\w+>\\s*${name}\\s*:\\s*array<(\\w+)>`).exec(text);
    const alias = found && new RegExp(`\\balias\\s+${found[1]}\\s*=\\s*(\\w+)`).exec(text)?.[1];
    const type = alias || found?.[1];
    if (!found || !type || !(type in LOADS)) return binding;
    if (!both) text = text.replace(found[0], `var ${name}: texture_2d<u32>`);
    text = callsFor(text, name);
    const own = new RegExp(`(?<![\\w.])${name}\\s*:|\\b(let|var)\\s+${name}\\b`);
    rest = rest.map((part) => own.test(part) ? part : callsFor(part, name));
    const shift = SHIFTS[type];
    const at = shift === 0 ? "i" : `(i >> ${shift}u)`;
    const position = `vec2u(${at} % ${TEXEL_COLUMNS}u, ${at} / ${TEXEL_COLUMNS}u)`;
    const source = both ? `${name}_before` : name;
    const body = LOADS[type].replace("T", `textureLoad(${source}, ${position}, 0)`);
    loads += `fn texel_of_${name}(i: u32) -> ${type} { ${body} }\n`;
    if (!both) return { ...binding, type: "texels" };
    const index = Math.max(...declared.map((d) => d.index)) + 1 + added.length;
    loads += `@group(0) @binding(${index}) var ${source}: texture_2d<u32>;\n`;
    added.push({ name: source, index, type: "texels", of: name });
    return binding;
  });
  return { files: [text, ...rest], loads, declared: [...changed, ...added] };
}

/** Every `name[…]` that is read, outside comments, as `texel_of_name(u32(…))`. */
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
    const isTarget = /^\s*=[^=]/.test(text.slice(end, end + 16));
    const access = isTarget ? `${name}[${inner}]` : `texel_of_${name}(u32(${inner}))`;
    out += text.slice(last, match.index) + access;
    last = start.lastIndex = end;
  }
  return out + text.slice(last);
}
