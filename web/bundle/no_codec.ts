/** In place of the decompressors for Zarr, which NiiVue can read and this page never does: 1.4 MB, and the only WebAssembly. */
export default class NoCodec {
  static fromConfig(): never {
    throw new Error("this page does not read Zarr");
  }
}
