// A small uniformity analysis of WGSL: browsers reject barriers and subgroup operations that not every invocation
// reaches together, Deno accepts them. Errs on the strict side, as the specification does (WGSL, §15.2): what
// comes from an invocation's own index, from private or workgroup variables or from writable buffers is taken to
// differ between invocations, and so is everything computed from it or assigned where it decides.

/** Builtins that differ within a workgroup. */
const OWN =
  /@builtin\((local_invocation_\w+|global_invocation_id|subgroup_invocation_id)\)\s*(\w+)/g;
/** Calls that must be reached together. */
const TOGETHER =
  /\b(workgroupBarrier|storageBarrier|textureBarrier|subgroup[A-Z]\w*|quad[A-Z]\w*)\s*\(/;

/** A name that is not a member of something. */
const NAME = /(?<![.\w])[A-Za-z_]\w*/g;

/** A name and what it is made from; of an assignment also the place within it. */
const DECLARATION = /^(?:for\s*\(\s*)?(?:let|var|const)\s+(\w+)[^=]*=(?!=)(.*)$/s;
const ASSIGNMENT = /^(\w+)([^=(]*=(?!=).*)$/s;

interface Statement {
  text: string;
  /** Headers of the blocks around it: `if (…)`, `for (…)`, …; `else` repeats its `if`. */
  around: string[];
}

interface WgslFunction {
  name: string;
  parameters: string[];
  statements: Statement[];
  /** Names that may differ between invocations. */
  varying: Set<string>;
  varyingResult: boolean;
  needsAll: boolean;
}

/** Statements of a body, each declared name made unique; headers of loops are statements inside their block. */
function statementsOf(body: string): Statement[] {
  const found: Statement[] = [];
  const around: string[] = [];
  const scopes = [new Map<string, string>()];
  let [text, depth, closed, declared] = ["", 0, "", 0];
  const resolved = (statement: string) => {
    const renamed = (part: string) =>
      part.replace(NAME, (name) => scopes.findLast((scope) => scope.has(name))?.get(name) ?? name);
    const declaration = /^((?:for\s*\(\s*)?(?:let|var|const)\s+)(\w+)(.*)$/s.exec(statement);
    if (!declaration) return renamed(statement);
    const [, start, name, rest] = declaration;
    const unique = `${name}__${declared++}`;
    const loop = start.startsWith("for"); // its own steps see the new name, an initial value does not
    const value = loop ? rest : renamed(rest);
    scopes.at(-1)!.set(name, unique);
    return start + unique + (loop ? renamed(value) : value);
  };
  for (const c of body) {
    if (c === "(") depth++;
    if (c === ")") depth--;
    if (depth > 0 || !"{};".includes(c)) {
      text += c;
      continue;
    }
    const trimmed = text.trim();
    text = "";
    if (c === "{") {
      scopes.push(new Map());
      const header = resolved(trimmed);
      around.push(header.startsWith("else") ? `${closed} ${header}` : header);
      if (/^(for|while|loop|switch)/.test(header)) {
        found.push({ text: header, around: [...around] });
      }
    } else if (trimmed) found.push({ text: resolved(trimmed), around: [...around] });
    if (c === "}") {
      closed = around.pop() ?? "";
      scopes.pop();
    }
  }
  return found;
}

/** Splits at commas outside brackets. */
function listOf(text: string): string[] {
  const parts = [""];
  let depth = 0;
  for (const c of text) {
    if ("([<".includes(c)) depth++;
    if (")]>".includes(c)) depth--;
    if (c === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += c;
  }
  return parts.map((part) => part.trim()).filter(Boolean);
}

/** The text between a bracket at `from` and its partner. */
function inside(code: string, from: number): string {
  const [open, close] = code[from] === "(" ? "()" : "{}";
  let depth = 0;
  for (let i = from; i < code.length; i++) {
    if (code[i] === open) depth++;
    if (code[i] === close && --depth === 0) return code.slice(from + 1, i);
  }
  throw new Error(`no ${close} for the ${open} at ${from}`);
}

function functionsOf(code: string): WgslFunction[] {
  return [...code.matchAll(/\bfn\s+(\w+)\s*\(/g)].map((match) => {
    const from = match.index + match[0].length - 1;
    const list = inside(code, from);
    const bodyAt = code.indexOf("{", from + list.length);
    const varying = new Set([...list.matchAll(OWN)].map(([, , name]) => name));
    const parameters = listOf(list).map((p) => /(\w+)\s*:/.exec(p)?.[1] ?? "");
    const statements = statementsOf(inside(code, bodyAt));
    const needsAll = statements.some(({ text }) => TOGETHER.test(text));
    return { name: match[1], parameters, statements, varying, varyingResult: false, needsAll };
  });
}

const words = (text: string) => text.match(NAME) ?? [];

/** Places where not all invocations may arrive together, as `function: statement`. */
export function uniformityFaults(source: string): string[] {
  const code = source.replace(/\/\/[^\n]*/g, "");
  const shared = [...code.matchAll(
    /var<(?:private|workgroup|storage,\s*read_write)>\s*(\w+)/g,
  )].map(([, name]) => name);
  const functions = functionsOf(code);
  const byName = new Map(functions.map((f) => [f.name, f]));
  const varies = (f: WgslFunction, text: string) =>
    words(text).some((word) =>
      f.varying.has(word) || shared.includes(word) || byName.get(word)?.varyingResult
    );
  const decided = (f: WgslFunction, { around }: Statement) => around.some((h) => varies(f, h));

  for (let before = -1, size = 0; size !== before;) { // until nothing new is found
    for (const f of functions) {
      for (const statement of f.statements) {
        const { text } = statement;
        const differs = decided(f, statement);
        const assigned = DECLARATION.exec(text) ?? ASSIGNMENT.exec(text);
        if (assigned && (differs || varies(f, assigned[2]))) f.varying.add(assigned[1]);
        const step = /^(\w+)(\+\+|--)$/.exec(text);
        if (step && differs) f.varying.add(step[1]);
        if (text.startsWith("return") && (differs || varies(f, text))) f.varyingResult = true;
        for (const call of text.matchAll(/\b(\w+)\s*\(/g)) {
          const callee = byName.get(call[1]);
          if (!callee) continue;
          if (callee.needsAll) f.needsAll = true;
          const given = listOf(inside(text, call.index + call[0].length - 1));
          given.forEach((argument, i) => {
            if (varies(f, argument)) callee.varying.add(callee.parameters[i]);
          });
        }
      }
    }
    before = size;
    size = functions.reduce(
      (n, f) => n + f.varying.size + Number(f.varyingResult) + Number(f.needsAll),
      0,
    );
  }

  const needsAll = (text: string) =>
    TOGETHER.test(text) ||
    [...text.matchAll(/\b(\w+)\s*\(/g)].some(([, n]) => byName.get(n)?.needsAll);
  return functions.filter((f) => f.needsAll).flatMap((f) => {
    const last = f.statements.findLastIndex(({ text }) => needsAll(text));
    return f.statements.filter((statement, i) => {
      const leaves = /^(return|break|continue)\b/.test(statement.text) && i < last;
      return (leaves || needsAll(statement.text)) && decided(f, statement);
    }).map(({ text }) =>
      `${f.name}: ${text.replace(/__\d+/g, "").replace(/\s+/g, " ").slice(0, 60)}`
    );
  });
}
