import { existsSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { type DebianPackage, dependencies, getPackage } from "./debian.ts";
import { makeHeadersTree } from "./headers.ts";
import { buildDir } from "./paths.ts";
import { UserError, isNewer, run } from "./tools.ts";
import { makeUnpackedKernel, unpackedKernelRecipe } from "./unpacked-kernel.ts";

/** A kernel as Debian ships it, unpacked in our cache. */
export interface Kernel {
  /** The package that was asked for, possibly a meta package such as linux-image-amd64. */
  name: string;
  /** What `uname -r` says. */
  release: string;
  /** Debian's own bzImage. */
  vmlinuz: string;
  /** Its lib/modules/RELEASE, with modules.dep. */
  modulesDir: string;
  /** Where `make -C DIR M=... modules` builds a module; fetched at first use. */
  readonly headersDir: string;
  /** A bzImage of the same kernel that is quickly unpacked at boot; made at first use. */
  readonly flat: string;
}

/** The kernel that everything uses unless KERNEL says otherwise. */
export const defaultKernel = "linux-image-amd64";

/** Package names of the kernels for OS 1 and OS 2, as the user chose them: `make run KERNEL1=… KERNEL2=…`. */
export function chosenKernels(env = process.env): { kernel1: string; kernel2: string } {
  const either = env.KERNEL || defaultKernel;
  return { kernel1: env.KERNEL1 || either, kernel2: env.KERNEL2 || either };
}

/** Follows meta packages to the one that holds a kernel. */
function getImagePackage(name: string): { pkg: DebianPackage; vmlinuz: string } {
  const pkg = getPackage(name);
  const boot = join(pkg.dir, "boot");
  const vmlinuz = existsSync(boot) ? readdirSync(boot).find((file) => file.startsWith("vmlinuz-")) : undefined;
  if (vmlinuz) return { pkg, vmlinuz: join(boot, vmlinuz) };
  const next = dependencies(pkg).find((one) => one.startsWith("linux-image-"));
  if (!next) throw new UserError(`Debian package '${name}' holds no kernel`);
  return getImagePackage(next);
}

/** The folder of a kernel's modules; modules.dep, which Debian makes when it installs a kernel, is made here. */
function getModules({ dir }: DebianPackage, release: string): string {
  // depmod looks in lib/modules; since Debian 13 the package has usr/lib/modules only.
  if (!existsSync(join(dir, "lib"))) symlinkSync("usr/lib", join(dir, "lib"));
  const modules = join(dir, "lib/modules", release);
  if (!existsSync(join(modules, "modules.dep"))) run("depmod", ["-b", dir, release]);
  return modules;
}

/** Fetches a kernel by the name of its Debian package, from any suite that debian.ts knows. */
export function getKernel(name: string = defaultKernel): Kernel {
  const { pkg, vmlinuz } = getImagePackage(name);
  const release = /vmlinuz-(.*)$/.exec(vmlinuz)![1]!;
  return {
    name,
    release,
    vmlinuz,
    modulesDir: getModules(pkg, release),
    get headersDir() {
      return makeHeadersTree(release);
    },
    get flat() {
      const flat = join(buildDir, "kernel", `unpacked-${release}`);
      if (!isNewer(flat, unpackedKernelRecipe)) makeUnpackedKernel(vmlinuz, release, flat);
      return flat;
    },
  };
}
