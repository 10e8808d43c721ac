import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dependencies, getPackage } from "./debian.ts";
import { cacheDir } from "./paths.ts";
import { atomically, run } from "./tools.ts";

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
        rewritePaths(join(temporary, "usr/src", folder, ".kernelvariables"), tree);
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
