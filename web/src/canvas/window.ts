import type { Picture } from "../masks/grid";

/** Intensities shown from black to white, in the scan's units (HU in CT). */
export interface Window {
  readonly low: number;
  readonly high: number;
}

/** How stored integers become intensities: value × slope + intercept. */
export interface Scaling {
  readonly slope: number;
  readonly intercept: number;
}

/** Stored integers of intensities, and the other way round; their order is kept, also where the slope is negative. */
export function toStored({ low, high }: Window, { slope, intercept }: Scaling): Window {
  return ordered((low - intercept) / slope, (high - intercept) / slope);
}

export function toIntensities({ low, high }: Window, { slope, intercept }: Scaling): Window {
  return ordered(low * slope + intercept, high * slope + intercept);
}

function ordered(a: number, b: number): Window {
  return { low: Math.min(a, b), high: Math.max(a, b) };
}

/** Writes a slice as opaque grey RGBA, 4 bytes a voxel. */
export function grey(picture: Picture, scaling: Scaling, window: Window, rgba: Uint8ClampedArray): void {
  const gain = 255 / Math.max(window.high - window.low, 1e-6);
  const [scale, shift] = [scaling.slope * gain, (scaling.intercept - window.low) * gain];
  const pixels = new Uint32Array(rgba.buffer, rgba.byteOffset, picture.values.length);
  for (let k = 0; k < pixels.length; k++) {
    const value = picture.values[k]! * scale + shift;
    const level = value <= 0 ? 0 : value >= 255 ? 255 : Math.round(value);
    pixels[k] = 0xff000000 | (level << 16) | (level << 8) | level;
  }
}

/** The window after a drag: to the right it widens, downwards its level rises, in proportion to its width. */
export function dragged(window: Window, dx: number, dy: number): Window {
  const width = window.high - window.low;
  const level = (window.high + window.low) / 2 + (dy / 400) * width;
  const half = Math.max(width * Math.exp(dx / 250), 1e-3) / 2;
  return { low: level - half, high: level + half };
}
