/** A label map as runs of equal values: [value, length, value, length, …]. A 512×512 outline needs a few kB instead of 256. */
export type Runs = Uint32Array;

export function encodeRuns(values: Uint8Array): Runs {
  const runs: number[] = [];
  for (let start = 0; start < values.length;) {
    let end = start + 1;
    while (end < values.length && values[end] === values[start]) end++;
    runs.push(values[start]!, end - start);
    start = end;
  }
  return Uint32Array.from(runs);
}

export function decodeRuns(runs: Runs): Uint8Array {
  let size = 0;
  for (let k = 1; k < runs.length; k += 2) size += runs[k]!;
  const values = new Uint8Array(size);
  for (let k = 0, start = 0; k < runs.length; k += 2) {
    values.fill(runs[k]!, start, start + runs[k + 1]!);
    start += runs[k + 1]!;
  }
  return values;
}
