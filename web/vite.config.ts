/** Builds the page into the Python package; `npm run dev` serves it with a real server behind /api, or with `--mode fake`. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { fakeApi } from "./dev/fake_api.ts";

const PAGE = fileURLToPath(new URL("../src/frugalseg/annotation/page", import.meta.url));
const SERVER = process.env["FRUGALSEG_SERVER"] ?? "http://127.0.0.1:8765";

export default defineConfig(({ mode }) => ({
  plugins: mode === "fake" ? [fakeApi()] : [],
  build: {
    outDir: PAGE,
    emptyOutDir: true,
    target: "es2022",
    // Nothing is inlined as a data URL, so that the content security policy can be strict.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2500,
  },
  server: mode === "fake" ? {} : { proxy: { "/api": SERVER } },
  test: { include: ["tests/**/*.test.ts"] },
}));
