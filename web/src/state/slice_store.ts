import type { Api, SlicePicture } from "../api/client";
import type { CaseDetail } from "../api/types";
import { emptyMask, type Mask, type Spacing } from "../masks/grid";

interface Held {
  readonly mask: Mask;
  version: number;
}

const BUDGET_BYTES = 256 * 2 ** 20;
const AHEAD = 8;
const AT_ONCE = 3;

/** Pictures and masks of one scan: each is fetched once, neighbours of the slice on screen ahead of time. */
export class SliceStore {
  readonly columns: number;
  readonly rows: number;
  readonly count: number;
  readonly spacing: Spacing;
  private readonly pictures = new Map<number, SlicePicture>();
  private readonly masks = new Map<number, Held>();
  private readonly underWay = new Map<string, Promise<unknown>>();
  private readonly references = new Map<number, Mask>();
  private wanted: number[] = [];
  private fetching = 0;

  constructor(
    private readonly api: Api,
    readonly id: string,
    detail: CaseDetail,
  ) {
    [this.columns, this.rows, this.count] = detail.shape;
    this.spacing = { column: detail.spacing[0], row: detail.spacing[1] };
  }

  picture(slice: number): SlicePicture | null {
    return this.pictures.get(slice) ?? null;
  }

  mask(slice: number): Mask | null {
    return this.masks.get(slice)?.mask ?? null;
  }

  version(slice: number): number {
    return this.masks.get(slice)?.version ?? 0;
  }

  reference(slice: number): Mask | null {
    return this.references.get(slice) ?? null;
  }

  loadPicture(slice: number): Promise<SlicePicture> {
    const held = this.pictures.get(slice);
    if (held !== undefined) return Promise.resolve(held);
    return this.once(`picture ${slice}`, async () => {
      const picture = await this.api.picture(this.id, slice);
      this.pictures.set(slice, picture);
      this.shrink(slice);
      return picture;
    });
  }

  loadMask(slice: number): Promise<Mask> {
    const held = this.masks.get(slice);
    if (held !== undefined) return Promise.resolve(held.mask);
    return this.once(`mask ${slice}`, async () => {
      const { mask, version } = await this.api.mask(this.id, slice, this.rows, this.columns);
      // A stroke drawn meanwhile, on an unsaved state that was recovered, is newer.
      const drawn = this.masks.get(slice);
      if (drawn !== undefined) return drawn.mask;
      this.masks.set(slice, { mask, version });
      return mask;
    });
  }

  loadReference(slice: number): Promise<Mask> {
    const held = this.references.get(slice);
    if (held !== undefined) return Promise.resolve(held);
    return this.once(`reference ${slice}`, async () => {
      const mask = await this.api.reference(this.id, slice, this.rows, this.columns);
      this.references.set(slice, mask);
      return mask;
    });
  }

  /** Sets a slice's mask, as drawn. */
  draw(slice: number, values: Uint8Array): Mask {
    const mask = this.masks.get(slice)?.mask ?? emptyMask(this.rows, this.columns);
    mask.values.set(values);
    this.masks.set(slice, { mask, version: this.version(slice) });
    return mask;
  }

  saved(slice: number, version: number): void {
    const held = this.masks.get(slice);
    if (held !== undefined) held.version = Math.max(held.version, version);
  }

  /** Fetches a slice's mask again. Until it is there, the old one stays on screen. */
  async reload(slice: number): Promise<Mask> {
    const { mask, version } = await this.api.mask(this.id, slice, this.rows, this.columns);
    const held = this.masks.get(slice);
    if (held === undefined) {
      this.masks.set(slice, { mask, version });
      return mask;
    }
    held.mask.values.set(mask.values);
    held.version = version;
    return held.mask;
  }

  forget(slice: number): void {
    this.masks.delete(slice);
  }

  /** Slices with a mask here that is older than the version given. */
  outdated(versions: ReadonlyMap<number, number>): number[] {
    return [...this.masks].filter(([slice, held]) => (versions.get(slice) ?? 0) > held.version).map(([slice]) => slice);
  }

  /** Fetches the neighbours of a slice, the nearest first. A later call replaces what an earlier one has not begun. */
  prefetch(slice: number): void {
    this.wanted = [];
    for (let step = 1; step <= AHEAD; step++) {
      for (const z of [slice + step, slice - step]) if (z >= 0 && z < this.count) this.wanted.push(z);
    }
    while (this.fetching < AT_ONCE && this.wanted.length > 0) void this.fetchNext();
  }

  private async fetchNext(): Promise<void> {
    this.fetching += 1;
    try {
      for (let slice = this.wanted.shift(); slice !== undefined; slice = this.wanted.shift()) {
        await Promise.all([this.loadPicture(slice), this.loadMask(slice)]);
      }
    } catch {
      // Prefetching is a convenience: the slice is requested again, and its failure reported, when it is needed.
      this.wanted = [];
    } finally {
      this.fetching -= 1;
    }
  }

  private once<T>(key: string, work: () => Promise<T>): Promise<T> {
    const begun = this.underWay.get(key);
    if (begun !== undefined) return begun as Promise<T>;
    const promise = work().finally(() => this.underWay.delete(key));
    this.underWay.set(key, promise);
    return promise;
  }

  /** Drops the pictures farthest from a slice when they need too much memory. */
  private shrink(around: number): void {
    const most = Math.max(2 * AHEAD + 1, Math.floor(BUDGET_BYTES / (2 * this.rows * this.columns)));
    while (this.pictures.size > most) {
      const farthest = [...this.pictures.keys()].reduce((a, b) => (Math.abs(b - around) > Math.abs(a - around) ? b : a));
      this.pictures.delete(farthest);
    }
  }
}
