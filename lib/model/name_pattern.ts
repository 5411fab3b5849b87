// Patterns over our names, by their segments between dots: `*` is any one segment, `8-15` a range, `{und,gen}`
// alternatives. A pattern stands for every name that begins with what it matches: `gen.layers.*.mlp`.

/** True for names that begin with what the pattern matches. */
export function namePattern(pattern: string): (name: string) => boolean {
  const tests = pattern.split(/\.(?![^{]*\})/).map(segmentTest);
  return (name) => {
    const segments = name.split(".");
    return tests.length <= segments.length && tests.every((test, i) => test(segments[i]));
  };
}

function segmentTest(text: string): (segment: string) => boolean {
  if (text === "*") return () => true;
  const range = /^(\d+)-(\d+)$/.exec(text);
  if (range) {
    const [from, to] = [Number(range[1]), Number(range[2])];
    return (segment) => /^\d+$/.test(segment) && Number(segment) >= from && Number(segment) <= to;
  }
  const choices = /^\{(.+)\}$/.exec(text)?.[1].split(",").map((choice) => choice.trim());
  return choices ? (segment) => choices.includes(segment) : (segment) => segment === text;
}
