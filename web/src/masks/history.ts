/** What one stroke changed on one slice. */
export interface Edit {
  readonly slice: number;
  readonly indices: Uint32Array;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/** The difference between two label maps of a slice; null if they are equal. */
export function difference(slice: number, before: Uint8Array, after: Uint8Array): Edit | null {
  let count = 0;
  for (let k = 0; k < after.length; k++) if (before[k] !== after[k]) count += 1;
  if (count === 0) return null;
  const edit = { slice, indices: new Uint32Array(count), before: new Uint8Array(count), after: new Uint8Array(count) };
  for (let k = 0, n = 0; k < after.length; k++) {
    if (before[k] === after[k]) continue;
    edit.indices[n] = k;
    edit.before[n] = before[k]!;
    edit.after[n++] = after[k]!;
  }
  return edit;
}

/** Writes the values before or after an edit into a slice. */
export function apply(edit: Edit, side: "before" | "after", values: Uint8Array): void {
  const source = edit[side];
  edit.indices.forEach((index, k) => {
    values[index] = source[k]!;
  });
}

/** Undo and redo of one scan. A step is all that one stroke or command changed, on one slice or several. */
export class History {
  private done: (readonly Edit[])[] = [];
  private undone: (readonly Edit[])[] = [];

  constructor(private readonly limit = 500) {}

  get canUndo(): boolean {
    return this.done.length > 0;
  }

  get canRedo(): boolean {
    return this.undone.length > 0;
  }

  push(step: readonly Edit[]): void {
    if (step.length === 0) return;
    this.done.push(step);
    if (this.done.length > this.limit) this.done.shift();
    this.undone = [];
  }

  /** The step to take back, or null. */
  undo(): readonly Edit[] | null {
    const step = this.done.pop();
    if (step === undefined) return null;
    this.undone.push(step);
    return step;
  }

  /** The step to do again, or null. */
  redo(): readonly Edit[] | null {
    const step = this.undone.pop();
    if (step === undefined) return null;
    this.done.push(step);
    return step;
  }

  /** Forgets the steps that touch a slice, when someone else has changed it. */
  forget(slice: number): void {
    const keeps = (step: readonly Edit[]): boolean => step.every((edit) => edit.slice !== slice);
    this.done = this.done.filter(keeps);
    this.undone = this.undone.filter(keeps);
  }
}
