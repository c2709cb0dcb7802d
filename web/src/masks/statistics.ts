import type { Mask, Picture } from "./grid";

/** Intensities that most voxels of a label have: mean ± 2 standard deviations, in stored units; null without voxels. */
export function labelRange(mask: Mask, picture: Picture, label: number): { low: number; high: number } | null {
  let [count, sum, squares] = [0, 0, 0];
  mask.values.forEach((value, k) => {
    if (value !== label) return;
    const intensity = picture.values[k]!;
    count += 1;
    sum += intensity;
    squares += intensity * intensity;
  });
  if (count === 0) return null;
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
  return { low: mean - 2 * deviation, high: mean + 2 * deviation };
}

/** Dice of one label on a slice, 0…1; 1 where neither has it. */
export function dice(mask: Mask, reference: Mask, label: number): number {
  let [both, total] = [0, 0];
  mask.values.forEach((value, k) => {
    const [a, b] = [value === label, reference.values[k] === label];
    both += a && b ? 2 : 0;
    total += (a ? 1 : 0) + (b ? 1 : 0);
  });
  return total === 0 ? 1 : both / total;
}
