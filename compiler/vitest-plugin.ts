/**
 * Lets a test import a module of the dialect: its functions run in Node with the wraps, checks and traps of the machine,
 * over the simulated memory of emit-js/shared.ts. A module that does not compile fails the import with its diagnostics.
 *
 *   plugins: [dialect(["vmm-src/"])]
 */
import fs from "node:fs";
import path from "node:path";
import { CORE, SIMULATION } from "./files.ts";
import type { Program } from "./ir.ts";

/** The part of Vite's plugin interface that is used. */
interface Plugin {
  name: string;
  enforce: "pre";
  transform(code: string, id: string): Promise<{ code: string; map: null } | null>;
}

/** `folders`: where the dialect's modules are, relative to the working directory; tests among them are not of the dialect. */
export function dialect(folders: string[]): Plugin {
  const roots = folders.map((folder) => path.resolve(folder) + path.sep);
  return {
    name: "understudy-dialect",
    enforce: "pre",
    async transform(_code, id) {
      const file = id.split("?", 1)[0]!;
      if (!file.endsWith(".ts") || file.endsWith(".test.ts") || file.includes("/node_modules/")) return null;
      if (!roots.some((root) => file.startsWith(root))) {
        refuseBypass(file, folders);
        return null;
      }
      // Not before it is needed: TypeScript takes a while to load.
      const [{ compile }, { reportAll }] = await Promise.all([import("./compile.ts"), import("./report.ts")]);
      const { program, errors } = compile({ entries: [file], guarded: true }, "exports");
      if (errors.length > 0) throw new Error(`\n${reportAll(errors)}`);
      return { code: moduleText(program, file), map: null };
    },
  };
}

/** A module of the dialect that runs as ordinary TypeScript would neither wrap nor trap, and nobody would notice. */
function refuseBypass(file: string, folders: string[]): void {
  if (!isDialectFolder(path.dirname(file))) return;
  const name = path.relative(process.cwd(), file);
  throw new Error(`${name} is a module of the dialect: its tsconfig.json has the core library. As ordinary TypeScript it would neither wrap nor trap. `
    + `The plugin has to know its folder: dialect(${JSON.stringify([...folders, path.dirname(name)])})`);
}

const dialectFolders = new Map<string, boolean>();

/** Whether the nearest tsconfig.json of a folder includes the dialect's core library. */
function isDialectFolder(folder: string): boolean {
  let known = dialectFolders.get(folder);
  if (known === undefined) {
    const config = path.join(folder, "tsconfig.json");
    const parent = path.dirname(folder);
    known = fs.existsSync(config)
      ? [...fs.readFileSync(config, "utf8").matchAll(/"([^"\n]*core\.d\.ts)"/g)].some((match) => path.resolve(folder, match[1]!) === CORE)
      : parent !== folder && isDialectFolder(parent);
    dialectFolders.set(folder, known);
  }
  return known;
}

/** The JavaScript that stands for a module: exported functions, constants and enumerations. */
function moduleText(program: Program, file: string): string {
  const source = path.relative(process.cwd(), file);
  const lines = [`import { shared } from ${JSON.stringify(SIMULATION)};`];
  for (const func of program.funcs) {
    if (func.exported && func.body && func.loc.source.path === source) lines.push(`export const ${func.name} = shared(${JSON.stringify(file)}, "${func.name}");`);
  }
  for (const one of program.exports.filter((found) => found.path === source)) lines.push(`export const ${one.name} = ${one.text};`);
  return lines.join("\n");
}
