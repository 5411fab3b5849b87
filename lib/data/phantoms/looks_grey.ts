// The grey looks: X-ray, CT, MRI, OCT and ultrasound.

import { bell, type Canvas, type Look, mix, ramp, waves } from "./canvas.ts";

/** Writes one brightness into the three channels. */
function setGrey(rgb: Float32Array, i: number, value: number) {
  rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = value;
}

/** Moves a brightness towards white or black where a lesion is. */
function withLesion({ lesion, bright, amplitude }: Canvas, i: number, value: number): number {
  return lesion[i] === 0 ? value : mix(value, bright ? 1 : 0.02, amplitude * lesion[i]);
}

/** Chest X-ray: pale body, two dark lungs crossed by ribs, pale spine; the organ is a shadow on them. */
export const cxr: Look = (canvas, draws) => {
  const { rgb, organ } = canvas;
  const gain = draws.uniform(0.92, 1.06);
  const lungWidth = draws.uniform(0.33, 0.38), lungAt = draws.uniform(0.46, 0.51);
  const ribPhase = draws.uniform(0, 6.2832), ribPitch = draws.uniform(15, 17);
  return (u, v, i) => {
    const side = Math.abs(u);
    const lung = ((side - lungAt - 0.06 * v) / lungWidth) ** 2 + ((v + 0.02) / 0.78) ** 2;
    const air = ramp(lung, 1.2, 0.8);
    const rib = Math.max(0, Math.sin(ribPitch * (v + 0.5 * (side - lungAt) ** 2) + ribPhase));
    const body = 0.78 - 0.16 * ramp(side, 0.75, 1.05) + 0.12 * bell(u, 0.1);
    let value = mix(body, 0.16 + 0.13 * rib, air);
    value = mix(value, 0.42 + 0.35 * value, 0.85 * organ[i]);
    setGrey(rgb, i, withLesion(canvas, i, gain * value) + 0.03 * draws.grain());
  };
};

/** Axial CT: black air, bright skin ring, dark fat, spine and table below; the organ is flat grey. */
export const ct: Look = (canvas, draws) => {
  const { rgb, organ } = canvas;
  const width = draws.uniform(0.92, 0.97), height = draws.uniform(0.8, 0.84);
  const level = draws.uniform(0.46, 0.54);
  return (u, v, i) => {
    const r = Math.sqrt((u / width) ** 2 + ((v + 0.06) / height) ** 2);
    const inside = ramp(r, 1.03, 0.97);
    let value = mix(0.02, 0.2, inside);
    value = Math.max(value, 0.72 * bell(r - 0.96, 0.045));
    value = mix(value, level, organ[i]);
    value = Math.max(value, ramp(Math.hypot(u, (v - 0.64) * 1.3), 0.14, 0.07)); // spine
    value = Math.max(value, 0.5 * bell(v - 0.95 + 0.14 * u * u, 0.045)); // table
    setGrey(rgb, i, withLesion(canvas, i, value) + 0.035 * draws.grain());
  };
};

/** Axial MRI of a head: bright scalp, black skull, folded grey tissue under an uneven coil field. */
export const mri: Look = (canvas, draws) => {
  const { rgb, organ } = canvas;
  const width = draws.uniform(0.84, 0.9), height = draws.uniform(0.93, 0.97);
  const folds = waves(draws, 13);
  const tilt = draws.uniform(0, 6.2832), tiltU = Math.cos(tilt), tiltV = Math.sin(tilt);
  return (u, v, i) => {
    const r = Math.sqrt((u / width) ** 2 + (v / height) ** 2);
    const brain = ramp(r, 0.84, 0.78);
    let value = 0.02 + brain * (0.3 + 0.1 * folds(u, v) - 0.16 * bell(u, 0.035));
    value += 0.72 * bell(r - 0.97, 0.045);
    value = mix(value, 0.6 + 0.05 * folds(v, u), organ[i] * brain);
    value *= 1 + 0.18 * (tiltU * u + tiltV * v);
    const noise = 0.03 * draws.grain();
    setGrey(rgb, i, Math.abs(withLesion(canvas, i, value) + noise)); // magnitude image: Rician floor
  };
};

/** Retinal OCT: black vitreous above curved bright layers, the lowest brightest, choroid fading below. */
export const oct: Look = (canvas, draws) => {
  const { rgb, organ } = canvas;
  const bend = draws.uniform(0.1, 0.28), lean = draws.uniform(-0.1, 0.1);
  const top = draws.uniform(-0.72, -0.64), base = draws.uniform(0.46, 0.54);
  return (u, v, i) => {
    const y = v + bend * (u * u - 0.35) - lean * u; // depth along the bent layers
    const z = (y - top) / (base - top); // 0 at the inner, 1 at the outer border
    const layers = 0.25 + 0.16 * Math.sin(19 * z) + 0.25 * bell(z, 0.05);
    let value = mix(0.03, z < 1 ? layers : 0.42 * Math.exp(-3.2 * (z - 1)), ramp(z, -0.05, 0.02));
    value = mix(value, 0.5 + 0.3 * value, 0.8 * organ[i]);
    value = Math.max(value, bell(z - 1, 0.05));
    value = Math.max(value, 0.6 * bell(z - 1.14, 0.03));
    const speckle = 1 + 0.17 * draws.grain();
    setGrey(rgb, i, withLesion(canvas, i, value) * speckle + 0.01);
  };
};

/** Ultrasound: a speckled fan that fades with depth; the organ is dark with an echoing outline. */
export const us: Look = (canvas, draws) => {
  const { rgb, organ, distance } = canvas;
  const halfAngle = draws.uniform(0.68, 0.74), fade = draws.uniform(0.15, 0.3);
  const streaks = waves(draws, 9);
  return (u, v, i) => {
    const depth = Math.hypot(u, v + 1.55); // the probe's centre of curvature lies above the picture
    const angle = Math.abs(Math.atan2(u, v + 1.55));
    const fan = ramp(depth, 0.62, 0.66) * ramp(depth, 2.5, 2.44) *
      ramp(angle, halfAngle + 0.015, halfAngle - 0.015);
    let value = 0.54 + 0.12 * streaks(angle, 3 * depth) - fade * (depth - 1.5);
    value = mix(value, 0.24, organ[i]);
    value = Math.max(value, 0.85 * bell(distance[i], 0.045)) + 0.3 * bell(depth - 0.68, 0.05);
    const speckle = Math.max(0.1, 1 + 0.28 * draws.grain());
    // Lesions are spared most of the speckle: small ones would drown in it.
    const calm = mix(speckle, 1 + 0.4 * (speckle - 1), canvas.amplitude * canvas.lesion[i]);
    setGrey(rgb, i, fan * withLesion(canvas, i, value) * calm);
  };
};
