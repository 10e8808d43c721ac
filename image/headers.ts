import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getCompiler, makeRunnable } from "./compiler.ts";
import { dependencies, getPackage } from "./debian.ts";
import { cacheDir } from "./paths.ts";
import { UserError, atomically, run } from "./tools.ts";

/**
 * Puts a kernel's header packages beside each other in one folder and makes them refer to each other there,
 * so that modules can be built for it without installing anything. Returns the folder for `make -C`.
 */
export function makeHeadersTree(release: string): string {
  const tree = join(cacheDir, "headers", release);
  const sources = join("usr/src", `linux-headers-${release}`);
  if (!existsSync(tree)) {
    const headers = getPackage(`linux-headers-${release}`);
    const parts = dependencies(headers).filter((name) => /^linux-(headers|kbuild)-/.test(name));
    atomically(tree, (temporary) => {
      mkdirSync(temporary, { recursive: true });
      for (const { dir } of [headers, ...parts.map((name) => getPackage(name))]) {
        run("cp", ["-a", join(dir, "usr"), temporary]);
      }
      for (const folder of readdirSync(join(temporary, "usr/src"))) {
        rewritePaths(join(temporary, "usr/src", folder, "Makefile"), tree);
      }
      const version = useCompiler(join(temporary, sources, ".kernelvariables"));
      for (const program of programsIn(join(temporary, "usr/lib"))) {
        makeRunnable(program, program.replace(temporary, tree), version);
      }
    });
  }
  return join(tree, sources);
}

/** Debian's header packages know each other by absolute path. */
function rewritePaths(file: string, tree: string): void {
  if (!existsSync(file)) return;
  const text = readFileSync(file, "utf8");
  writeFileSync(file, text.replace(/(^|[\s=:])(\/usr\/(?:src|lib)\/linux-)/gm, `$1${tree}$2`));
}

/** Modules must be built by the compiler that built the kernel; make it known by where it really is. Returns its version. */
function useCompiler(file: string): string {
  const text = readFileSync(file, "utf8");
  const version = /^CC = .*gcc-(\d+)$/m.exec(text)?.[1];
  if (!version) throw new UserError(`${file} doesn't say which compiler the kernel was built with`);
  writeFileSync(file, text.replace(/^CC = .*$/m, `CC = ${getCompiler(version)}`));
  return version;
}

/** The ELF programs in a folder: kbuild's own tools. */
function programsIn(dir: string): string[] {
  const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const isElf = (file: string) => {
    const descriptor = openSync(file, "r");
    const magic = Buffer.alloc(4);
    readSync(descriptor, magic);
    closeSync(descriptor);
    return magic.equals(Buffer.from("\x7fELF", "latin1"));
  };
  return files.map((entry) => join(entry.parentPath, entry.name)).filter((file) => statSync(file).mode & 0o111 && isElf(file));
}
