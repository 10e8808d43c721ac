/**
 * Lets a test import a module of the dialect: its functions run in Node with the wraps, checks and traps of the machine,
 * over the simulated memory of emit-js/shared.ts. A module that does not compile fails the import with its diagnostics.
 *
 *   plugins: [dialect(["vmm-src/"])]
 */
import path from "node:path";
import { SIMULATION } from "./files.ts";
import type { Program } from "./ir.ts";

/** The part of Vite's plugin interface that is used. */
interface Plugin {
  name: string;
  enforce: "pre";
  transform(code: string, id: string): Promise<{ code: string; map: null } | null>;
}

/** `folders`: where the dialect's modules are, relative to the working directory. */
export function dialect(folders: string[]): Plugin {
  const roots = folders.map((folder) => path.resolve(folder) + path.sep);
  return {
    name: "understudy-dialect",
    enforce: "pre",
    async transform(_code, id) {
      const file = id.split("?", 1)[0]!;
      if (!file.endsWith(".ts") || !roots.some((root) => file.startsWith(root))) return null;
      // Not before it is needed: TypeScript takes a while to load.
      const [{ compile }, { reportAll }] = await Promise.all([import("./compile.ts"), import("./report.ts")]);
      const { program, errors } = compile({ entries: [file] }, "exports");
      if (errors.length > 0) throw new Error(`\n${reportAll(errors)}`);
      return { code: moduleText(program, file), map: null };
    },
  };
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
