// A JSON parser for headers that come from strangers. JSON.parse keeps the last of two equal keys,
// reads 2.0 and 2e0 as 2, rounds 2^53 + 1 and accepts half a surrogate pair; here each of these is
// an error or stays visible: objects are Maps and numbers keep their text.

/** A number as it was written. */
export class JsonNumber {
  constructor(readonly text: string) {}

  /** The value if it is written as a plain integer in [0, 2^53), else undefined. */
  get index(): number | undefined {
    if (!/^(0|[1-9][0-9]*)$/.test(this.text)) return undefined;
    const value = Number(this.text);
    return Number.isSafeInteger(value) ? value : undefined;
  }
}

/** What {@link parseStrictJson} returns. */
export type StrictJson =
  | null
  | boolean
  | string
  | JsonNumber
  | StrictJson[]
  | Map<
    string,
    StrictJson
  >;

/** Nesting beyond which text is refused. */
const MAX_DEPTH = 64;

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
// deno-lint-ignore no-control-regex -- JSON forbids raw control characters in strings
const STRING_RUN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;

/**
 * Parses one JSON value that fills `text`.
 *
 * @throws {SyntaxError} If the text is not JSON, repeats a key in an object, nests deeper than
 * 64 levels or has an unpaired surrogate; the message gives the character offset
 */
export function parseStrictJson(text: string): StrictJson {
  let at = 0;

  const fail = (what: string): never => {
    throw new SyntaxError(`${what} at character ${at} of the JSON text`);
  };
  const match = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? "";
    at += found.length;
    return found;
  };
  const expect = (character: string) => {
    if (text[at] !== character) {
      fail(`expected ${character}, found ${text[at] ?? "the end"}`);
    }
    at++;
  };
  const word = <T>(literal: string, value: T): T => {
    if (!text.startsWith(literal, at)) fail(`unexpected ${text[at]}`);
    at += literal.length;
    return value;
  };

  const string = (): string => {
    expect('"');
    let value = "";
    while (true) {
      value += match(STRING_RUN);
      const stop = text[at];
      if (stop === '"') break;
      if (stop !== "\\") fail("unterminated string");
      value += escape();
    }
    at++;
    if (!value.isWellFormed()) fail("unpaired surrogate in a string");
    return value;
  };
  const escape = (): string => {
    const kind = text[at + 1] ?? "";
    const simple = '"\\/bfnrt'.indexOf(kind);
    if (kind !== "" && simple >= 0) {
      at += 2;
      return '"\\/\b\f\n\r\t'[simple];
    }
    const hex = text.slice(at + 2, at + 6);
    if (kind !== "u" || !/^[0-9a-fA-F]{4}$/.test(hex)) fail("bad escape");
    at += 6;
    return String.fromCharCode(parseInt(hex, 16));
  };

  const value = (depth: number): StrictJson => {
    if (depth > MAX_DEPTH) fail(`more than ${MAX_DEPTH} levels of nesting`);
    match(SPACE);
    switch (text[at]) {
      case "{":
        return object(depth);
      case "[":
        return array(depth);
      case '"':
        return string();
      case "t":
        return word("true", true);
      case "f":
        return word("false", false);
      case "n":
        return word("null", null);
    }
    const number = match(NUMBER);
    if (number === "") fail(`unexpected ${text[at] ?? "end"}`);
    return new JsonNumber(number);
  };
  const array = (depth: number): StrictJson[] => {
    const items: StrictJson[] = [];
    at++;
    match(SPACE);
    while (text[at] !== "]") {
      if (items.length > 0) expect(",");
      items.push(value(depth + 1));
      match(SPACE);
    }
    at++;
    return items;
  };
  const object = (depth: number): Map<string, StrictJson> => {
    const members = new Map<string, StrictJson>();
    at++;
    match(SPACE);
    while (text[at] !== "}") {
      if (members.size > 0) expect(",");
      match(SPACE);
      const key = string();
      if (members.has(key)) fail(`repeated key ${JSON.stringify(key)}`);
      match(SPACE);
      expect(":");
      members.set(key, value(depth + 1));
      match(SPACE);
    }
    at++;
    return members;
  };

  const result = value(0);
  match(SPACE);
  if (at < text.length) fail(`unexpected ${text[at]} after the value`);
  return result;
}
