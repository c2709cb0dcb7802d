/** Builds the page into the Python package; `npm run dev` serves it with a real server behind /api, or with `--mode fake`. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { licenses } from "./bundle/licenses.ts";
import { fakeApi } from "./dev/fake_api.ts";

const PAGE = fileURLToPath(new URL("../src/frugalseg/annotation/page", import.meta.url));
const NO_CODEC = fileURLToPath(new URL("./bundle/no_codec.ts", import.meta.url));
const CODECS = ["blosc", "lz4", "zstd"];
const SERVER = process.env["FRUGALSEG_SERVER"] ?? "http://127.0.0.1:8765";

export default defineConfig(({ mode }) => ({
  plugins: [licenses("assets/licenses.txt"), ...(mode === "fake" ? [fakeApi()] : [])],
  resolve: { alias: Object.fromEntries(CODECS.map((name) => [`numcodecs/${name}`, NO_CODEC])) },
  build: {
    outDir: PAGE,
    emptyOutDir: true,
    target: "es2022",
    // Nothing is inlined as a data URL, so that the content security policy can be strict.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2500,
  },
  server: mode === "fake" ? {} : { proxy: { "/api": { target: SERVER, changeOrigin: true, headers: { Origin: SERVER } } } },
  test: { include: ["tests/**/*.test.ts"] },
}));
