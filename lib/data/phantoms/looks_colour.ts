// The colour looks: fundus photograph, stained tissue and endoscopy.

import { bell, type Canvas, type Look, mix, ramp, waves } from "./canvas.ts";

type Rgb = readonly [number, number, number];

/** Writes a colour, moved towards the lesion's where there is one, with noise common to its channels. */
function setRgb(
  { rgb, lesion, bright, amplitude }: Canvas,
  i: number,
  r: number,
  g: number,
  b: number,
  lesionColours: readonly [dark: Rgb, bright: Rgb],
  noise: number,
) {
  const share = amplitude * lesion[i];
  const colour = lesionColours[bright ? 1 : 0];
  rgb[3 * i] = mix(r, colour[0], share) + noise;
  rgb[3 * i + 1] = mix(g, colour[1], share) + noise;
  rgb[3 * i + 2] = mix(b, colour[2], share) + noise;
}

/** Fundus photograph: orange disc on black, bright optic disc, vessels arching from it. */
export const cfp: Look = (canvas, draws) => {
  const { organ } = canvas;
  const side = draws.pick([-1, 1]), discV = draws.uniform(-0.1, 0.1);
  const red = draws.uniform(0.78, 0.9), green = draws.uniform(0.34, 0.42);
  const reach = [draws.uniform(0.5, 0.62), draws.uniform(0.5, 0.62)];
  const inner = [draws.uniform(0.16, 0.26), draws.uniform(0.16, 0.26)];
  const colours = [[0.3, 0.02, 0.02], [1, 1, 0.72]] as const;
  return (u, v, i) => {
    const r = Math.hypot(u, v);
    const field = ramp(r, 0.99, 0.93);
    const along = Math.max(0, 0.78 - side * u); // distance from the optic disc across the fundus
    const arc = Math.sqrt(along);
    const dv = v - discV, half = dv < 0 ? 0 : 1, off = Math.abs(dv);
    const vessel = Math.max(
      bell(off - reach[half] * arc, 0.045),
      0.7 * bell(off - inner[half] * arc, 0.03) * ramp(along, 0.9, 0.5),
    ) * ramp(along, 0, 0.05);
    const shade = 1 - 0.35 * r * r;
    let red1 = red * shade, green1 = green * shade, blue1 = 0.1 * shade;
    const share = 0.8 * organ[i]; // a pale patch of retina
    red1 = mix(red1, 0.97, share);
    green1 = mix(green1, 0.66, share);
    blue1 = mix(blue1, 0.3, share);
    const blood = 0.6 * vessel;
    red1 = mix(red1, 0.5, blood);
    green1 = mix(green1, 0.08, blood);
    blue1 = mix(blue1, 0.04, blood);
    const disc = ramp(Math.hypot(u - 0.78 * side, dv), 0.17, 0.1);
    red1 = mix(red1, 1, disc);
    green1 = mix(green1, 0.85, disc);
    blue1 = mix(blue1, 0.5, disc);
    const noise = field * 0.02 * draws.grain();
    setRgb(canvas, i, field * red1, field * green1, field * blue1, colours, noise);
  };
};

/** Stained tissue: pink fibres on white, the organ a purple gland, dark nuclei scattered in both. */
export const his: Look = (canvas, draws) => {
  const { organ, size } = canvas;
  const fibres = waves(draws, 11);
  const pink = draws.uniform(-0.04, 0.04);
  // Nuclei on a jittered 9 × 9 lattice, all inside the organ, one in three outside.
  const nuclei = new Float32Array(size * size);
  const pixel = 2 / size, pitch = 2 / 9, radius = 0.07;
  for (let n = 0; n < 81; n++) {
    const cu = (n % 9 + draws.uniform(0.2, 0.8)) * pitch - 1;
    const cv = (Math.floor(n / 9) + draws.uniform(0.2, 0.8)) * pitch - 1;
    const lone = draws.uniform() < 0.3;
    const row0 = Math.max(0, Math.floor((cv - radius + 1) / pixel - 1));
    const row1 = Math.min(size, Math.ceil((cv + radius + 1) / pixel + 1));
    const column0 = Math.max(0, Math.floor((cu - radius + 1) / pixel - 1));
    const column1 = Math.min(size, Math.ceil((cu + radius + 1) / pixel + 1));
    for (let row = row0; row < row1; row++) {
      for (let column = column0; column < column1; column++) {
        const i = row * size + column;
        const d = Math.hypot((column + 0.5) * pixel - 1 - cu, (row + 0.5) * pixel - 1 - cv);
        const c = Math.min(1, Math.max(0, 0.5 - (d - radius) / pixel)) * (lone ? 1 : organ[i]);
        if (c > nuclei[i]) nuclei[i] = c;
      }
    }
  }
  const colours = [[0.05, 0, 0.16], [1, 0.98, 1]] as const;
  return (u, v, i) => {
    const fibre = ramp(fibres(u, v), -0.75, 0.1);
    let r = mix(0.97, 0.95 + pink, fibre), g = mix(0.93, 0.66, fibre), b = mix(0.96, 0.8, fibre);
    r = mix(r, 0.74 + pink, organ[i]);
    g = mix(g, 0.42, organ[i]);
    b = mix(b, 0.72, organ[i]);
    const stain = 0.85 * nuclei[i];
    const noise = 0.03 * draws.grain();
    setRgb(
      canvas,
      i,
      mix(r, 0.36, stain),
      mix(g, 0.16, stain),
      mix(b, 0.52, stain),
      colours,
      noise,
    );
  };
};

/** Endoscopy: a pink tube with ring folds around a dark lumen, corners cut, wet highlights on top. */
export const endo: Look = (canvas, draws) => {
  const { organ, distance } = canvas;
  const angle = draws.uniform(0, 6.2832);
  const lumenU = 0.72 * Math.cos(angle), lumenV = 0.72 * Math.sin(angle);
  const phase = draws.uniform(0, 6.2832), warm = draws.uniform(-0.05, 0.05);
  const glints = Array.from({ length: 3 }, () => {
    const at = angle + draws.uniform(0.7, 5.6), reach = draws.uniform(0.76, 0.86);
    return [reach * Math.cos(at), reach * Math.sin(at)] as const;
  });
  const colours = [[0.28, 0.03, 0.08], [1, 0.96, 0.82]] as const;
  return (u, v, i) => {
    const cut = ramp(
      Math.max(Math.abs(u), Math.abs(v), 0.72 * (Math.abs(u) + Math.abs(v))),
      1,
      0.95,
    );
    const d = Math.hypot(u - lumenU, v - lumenV);
    const fold = 0.5 + 0.5 * Math.sin(10 * d + phase);
    const light = ramp(d, 0.08, 0.55) * (0.72 + 0.22 * fold);
    let r = 0.1 + (0.82 + warm) * light, g = 0.02 + 0.42 * light, b = 0.03 + 0.38 * light;
    const rim = bell(distance[i] - 0.03, 0.04) * 0.5; // the shadow around a raised organ
    r = mix(mix(r, 0.35, rim), 0.93, organ[i]);
    g = mix(mix(g, 0.08, rim), 0.58, organ[i]);
    b = mix(mix(b, 0.08, rim), 0.56, organ[i]);
    let glint = 0;
    for (const [gu, gv] of glints) {
      glint = Math.max(glint, ramp(Math.hypot(u - gu, v - gv), 0.1, 0.03));
    }
    glint *= 1 - organ[i];
    const noise = cut * 0.02 * draws.grain();
    setRgb(
      canvas,
      i,
      cut * mix(r, 1, glint),
      cut * mix(g, 1, glint),
      cut * mix(b, 1, glint),
      colours,
      noise,
    );
  };
};
