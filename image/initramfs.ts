import { mkdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { CpioArchive } from "./cpio.ts";
import { getPackage } from "./debian.ts";
import type { Kernel } from "./kernel.ts";
import { projectDir } from "./paths.ts";
import { UserError, atomically, run, runText } from "./tools.ts";

/** What an initramfs is made of. */
export interface InitramfsOptions {
  kernel: Kernel;
  /** Name of the system: its host name, and its shell's prompt is `NAME# `. */
  name: string;
  /** Modules that /init loads, in this order, each after those that it depends on. */
  load?: string[];
  /** Modules that are only on board, for `modprobe`; those that the kernel doesn't have are left out. */
  onBoard?: string[];
  /** Further files: place in the initramfs → file of ours, or { text }. */
  files?: Record<string, string | { text: string; executable?: boolean }>;
}

const spelled = (module: string) => module.replace(/-/g, "_");

/** The kernel's modules: name → file and the modules that must be loaded before it, in order. */
function readModulesDep(kernel: Kernel): Map<string, { file: string; needs: string[] }> {
  const nameOf = (path: string) => spelled(basename(path).replace(/\.ko(\..*)?$/, ""));
  const modules = new Map<string, { file: string; needs: string[] }>();
  for (const line of readFileSync(join(kernel.modulesDir, "modules.dep"), "utf8").split("\n")) {
    const [path, rest] = line.split(":");
    if (!path) continue;
    // modules.dep lists the last one to be loaded first.
    const needs = rest!.split(" ").filter(Boolean).reverse().map(nameOf);
    modules.set(nameOf(path), { file: join(kernel.modulesDir, path), needs });
  }
  return modules;
}

function readModule(file: string): Buffer {
  if (file.endsWith(".xz")) return run("xz", ["-dc", file]);
  if (file.endsWith(".zst")) return run("zstd", ["-dcq", file]);
  return readFileSync(file);
}

/** True if the module is part of the kernel's image, so there is nothing to load. */
function isBuiltIn(kernel: Kernel, module: string): boolean {
  const list = readFileSync(join(kernel.modulesDir, "modules.builtin"), "utf8");
  return list.split("\n").some((line) => spelled(basename(line, ".ko")) === module);
}

/** Builds an initramfs: busybox, modules, a shell on the first serial port. */
export function makeInitramfs(options: InitramfsOptions, output: string): void {
  const { kernel, name, load = [], onBoard = [], files = {} } = options;
  const archive = new CpioArchive();
  for (const dir of ["proc", "sys", "dev", "tmp", "run", "root", "mnt", "etc"]) archive.directory(dir);
  archive.device("dev/console", 5, 1).device("dev/null", 1, 3);
  archive.file("init", readFileSync(join(projectDir, "image/init.sh")), 0o755);
  archive.file("etc/hostname", name + "\n");
  addBusybox(archive);
  addModules(archive, kernel, load.map(spelled), onBoard.map(spelled));
  for (const [path, source] of Object.entries(files)) {
    if (typeof source === "string") archive.file(path, readFileSync(source), statSync(source).mode & 0o777);
    else archive.file(path, source.text, source.executable ? 0o755 : 0o644);
  }
  mkdirSync(dirname(output), { recursive: true });
  // Not compressed: in an emulator, unpacking costs more than reading a few megabytes more.
  atomically(output, (temporary) => archive.write(temporary));
}

function addBusybox(archive: CpioArchive): void {
  const busybox = join(getPackage("busybox-static").dir, "bin/busybox");
  archive.file("bin/busybox", readFileSync(busybox), 0o755);
  for (const applet of runText(busybox, ["--list-full"]).split("\n").filter(Boolean)) {
    if (basename(applet) === "busybox") continue;
    archive.symlink(`bin/${basename(applet)}`, "busybox");
  }
}

/**
 * Modules lie flat in /lib/modules/RELEASE with a modules.dep, which is all that busybox' modprobe needs;
 * /lib/modules/load names, one a line, what /init loads.
 */
function addModules(archive: CpioArchive, kernel: Kernel, load: string[], onBoard: string[]): void {
  const known = readModulesDep(kernel);
  const wanted = [...load, ...onBoard.filter((module) => known.has(module))].filter((module) => !isBuiltIn(kernel, module));
  const added = new Set<string>();
  for (const module of wanted) {
    const entry = known.get(module);
    if (!entry) throw new UserError(`kernel ${kernel.release} has no module '${module}'`);
    for (const one of [...entry.needs, module]) added.add(one);
  }
  const folder = `lib/modules/${kernel.release}`;
  const lines: string[] = [];
  for (const module of added) {
    const { file, needs } = known.get(module)!;
    archive.file(`${folder}/${module}.ko`, readModule(file));
    lines.push(`${module}.ko:${[...needs].reverse().map((one) => ` ${one}.ko`).join("")}`);
  }
  archive.file(`${folder}/modules.dep`, lines.map((line) => line + "\n").join(""));
  archive.file("lib/modules/load", load.filter((module) => added.has(module)).map((module) => module + "\n").join(""));
}
