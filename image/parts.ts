import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { backEnds } from "../linker/back-ends.ts";
import type { Kernel } from "./kernel.ts";
import { buildDir, projectDir } from "./paths.ts";
import { UserError } from "./tools.ts";

/** What the project builds for a system: place in the initramfs → file of ours. */
export function partsFor(kernel: Kernel): Record<string, string> {
  return {
    "lib/understudy/understudy.ko": join(buildDir, "linux", kernel.release, "understudy.ko"),
    ...Object.fromEntries(backEnds.map(({ name }) => [`lib/understudy/vmm-${name}.img`, join(buildDir, `vmm/${name}/vmm.img`)])),
    "bin/understudy": join(buildDir, "linux/understudy"),
    ...Object.fromEntries(programs().map((name) => [`bin/${name}`, join(buildDir, "programs", name)])),
    "lib/understudy/init": join(projectDir, "demo/os2-init.sh"),
  };
}

/** Names of the small programs that demonstration, measurements and tests run in a system. */
function programs(): string[] {
  return readdirSync(join(projectDir, "test/programs")).filter((file) => file.endsWith(".c")).map((file) => basename(file, ".c"));
}

/** Those of a kernel's parts that have been built. */
export function extraFiles(kernel: Kernel): Record<string, string> {
  return Object.fromEntries(Object.entries(partsFor(kernel)).filter(([, file]) => existsSync(file)));
}

/** Runs a build step that says itself what is wrong; shows its output only then. */
function step(name: string, command: string, args: string[]): void {
  const result = spawnSync(command, args, { cwd: projectDir, encoding: "utf8", maxBuffer: 1 << 28 });
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout}${result.stderr}`);
  throw new UserError(`${name} can't be built (${result.error?.message ?? "see above"})`);
}

/** Builds the VMM, the command and each kernel's module, from whatever is there to build. */
export function buildParts(kernels: Kernel[]): void {
  const vmm = join(projectDir, "linker/build.ts");
  if (existsSync(vmm)) step("the VMM", "npx", ["tsx", vmm]);
  if (!existsSync(join(projectDir, "linux/Makefile"))) return;
  step("the understudy command", "make", ["-C", "linux", "command", `OUT=${join(buildDir, "linux")}`]);
  step("the test programs", "make", ["-C", "test/programs", `OUT=${join(buildDir, "programs")}`]);
  for (const kernel of new Set(kernels)) {
    const out = join(buildDir, "linux", kernel.release);
    step(`the module for ${kernel.release}`, "make", ["-C", "linux", "module", `KDIR=${kernel.headersDir}`, `OUT=${out}`]);
  }
}
