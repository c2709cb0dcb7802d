/** Durations that the browser test reads and prints, as entries of the Performance API; `stroke` is one move of the brush, drawn. */
export type Timed = "first-slice" | "next-scan" | "slice-change" | "stroke" | "save" | "prompt";

export function measure(what: Timed, start: number): void {
  performance.measure(`frugalseg:${what}`, { start, end: performance.now() });
}
