/** Writes the licences of everything in the built page beside it, as they ask for. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

/** Packages that are published without the text of their licence: where it is kept here. */
const MISSING: Readonly<Record<string, URL>> = { "@niivue/niivue": new URL("./niivue_license.txt", import.meta.url) };

interface Part {
  readonly name: string;
  readonly version: string;
  readonly license: string;
}

export function licenses(file: string): Plugin {
  return {
    name: "licenses",
    generateBundle() {
      const roots = new Set([...this.getModuleIds()].map(packageOf).filter((root) => root !== null));
      const texts = [...roots].sort().map(describe);
      this.emitFile({ type: "asset", fileName: file, source: texts.join(`\n${"-".repeat(80)}\n\n`) });
    },
  };
}

/** The folder of the package that a module is from, or null for our own. */
function packageOf(module: string): string | null {
  return /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(module)?.[1] ?? null;
}

function describe(root: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Part;
  const own = readdirSync(root).find((file) => /^(licen[cs]e|copying)/i.test(file));
  const place = own === undefined ? MISSING[name] : join(root, own);
  if (place === undefined) throw new Error(`${name} has no text of its licence: put it in bundle/ and into MISSING`);
  return `${name} ${version} (${license})\n\n${readFileSync(place, "utf8").trim()}\n`;
}
