import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unpackTree } from "./debian.ts";
import { cacheDir } from "./paths.ts";
import { atomically } from "./tools.ts";

const triplet = "x86_64-linux-gnu";

/**
 * The compiler that a kernel was built with, for its modules: the host's, or else one unpacked in our cache.
 * `version` is what Debian's package name has, as 14 in gcc-14. Returns a command.
 */
export function getCompiler(version: string): string {
  const name = `${triplet}-gcc-${version}`;
  if (existsSync(join("/usr/bin", name))) return name;
  const wrappers = join(cacheDir, `gcc-${version}`);
  if (!existsSync(wrappers)) atomically(wrappers, (temporary) => makeWrappers(getTree(version), version, temporary));
  return join(wrappers, name);
}

/** A Debian that has this compiler, unpacked as far as it needs. */
function getTree(version: string): string {
  const tree = join(cacheDir, `gcc-${version}.tree`);
  // libelf is what kbuild's objtool wants besides.
  const isNew = Number(version) > 12;
  if (!existsSync(tree)) unpackTree(isNew ? "trixie" : "bookworm", [`gcc-${version}`, isNew ? "libelf1t64" : "libelf1"], tree);
  return tree;
}

/** A script that runs a program of another Debian by that Debian's own loader and libraries. */
function foreign(tree: string, program: string, more = ""): string {
  // Debian 12 still has some packages' files in /lib.
  const folders = [`${tree}/lib/${triplet}`, `${tree}/usr/lib/${triplet}`];
  const loader = folders.map((dir) => join(dir, "ld-linux-x86-64.so.2")).find((file) => existsSync(file));
  return `#!/bin/sh\nexec ${loader} --library-path ${folders.join(":")} ${program} ${more}"$@"\n`;
}

/** Makes a program runnable that was built, like the kernel, on a Debian with this compiler, and may want its newer libc. */
export function makeRunnable(program: string, finalPath: string, version: string): void {
  const { stdout } = spawnSync("ldd", [program], { encoding: "utf8", env: { LC_ALL: "C" } });
  if (!stdout.includes("not found")) return;
  renameSync(program, `${program}.real`);
  writeFileSync(program, foreign(getTree(version), `${finalPath}.real`), { mode: 0o755 });
}

/**
 * The tree's programs need the tree's loader and libraries, and gcc starts some itself: so each gets a script,
 * and gcc is told (-B) to look for them there. Assembler and linker are the host's.
 */
function makeWrappers(tree: string, version: string, dir: string): void {
  const programs = `${tree}/usr/libexec/gcc/${triplet}/${version}`;
  const home = join(cacheDir, `gcc-${version}`);
  const wrap = (name: string, program: string, more?: string) =>
    writeFileSync(join(dir, name), foreign(tree, program, more), { mode: 0o755 });
  mkdirSync(dir);
  wrap(`${triplet}-gcc-${version}`, `${tree}/usr/bin/${triplet}-gcc-${version}`, `-B${home}/ `);
  // Before gcc 13 Debian kept these elsewhere.
  const at = existsSync(join(programs, "cc1")) ? programs : `${tree}/usr/lib/gcc/${triplet}/${version}`;
  for (const one of ["cc1", "collect2", "lto-wrapper"]) wrap(one, join(at, one));
  for (const one of ["as", "ld"]) symlinkSync(`/usr/bin/${one}`, join(dir, one));
}
