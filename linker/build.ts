/**
 * Builds the VMM, once for each kind of processor: dialect to C, C and assembly to
 * objects, objects to an ELF file (for gdb) and the image that the loader takes,
 * vmm.elf and vmm.img in a folder named after the back end. Does nothing when
 * nothing changed.
 *
 *   npx tsx linker/build.ts [output directory, build/vmm]
 */
import { execFileSync, spawnSync } from "node:child_process";
import { type BackEnd, backEnds } from "./back-ends.ts";
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { crc32 } from "./crc32.ts";

const root = join(import.meta.dirname, "..");
const outputs = process.argv[2] ?? join(root, "build/vmm");

/** Freestanding, position-independent without relocations, no FPU state to save, no red zone for exits to overwrite; no parts of functions, of which -fcallgraph-info may tell nothing. */
const C_FLAGS = [
  "-std=gnu11", "-ffreestanding", "-fPIE", "-fvisibility=hidden", "-mgeneral-regs-only", "-mno-red-zone", "-fno-jump-tables", "-fno-partial-inlining",
  "-fno-strict-aliasing", "-fno-delete-null-pointer-checks", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-fwrapv",
  "-O2", "-g", "-fcallgraph-info=su", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-I", root,
];
const PAGE = 4096;
const CRC_OFFSET = 12;

function run(command: string, args: string[]): void {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (result.status !== 0) throw new Error(`${command} failed${result.error ? `: ${result.error.message}` : ""}`);
}

function sources(): string[] {
  const walk = (dir: string): string[] =>
    readdirSync(join(root, dir), { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? walk(join(dir, entry.name)) : [join(dir, entry.name)]);
  return ["vmm-src", "compiler", "boot", "linker"].flatMap(walk);
}

/** Whether `target` is newer than every source. */
function isFresh(target: string): boolean {
  if (!existsSync(target)) return false;
  const time = statSync(target).mtimeMs;
  return sources().every((file) => statSync(join(root, file)).mtimeMs <= time);
}

/**
 * Proves that the deepest chain of calls fits a processor's stack (cpu/host.ts, STACK_SIZE), with an interrupt
 * that the VMM takes on purpose, and an exception in it, on top. `enter` is called with four words pushed, the stub's address leaves with one.
 */
function proveStack(out: string, backEnd: BackEnd): void {
  run(process.execPath, [
    "compiler/understudy-compiler.cjs", "stack", join(out, "vmm.calls.json"), "--frames", join(out, "vmm.ci"), "--limit", "4096",
    "--pushed", "enter=32", "enterFailed=24", "onException=120",
    "--asm", ...["exceptionStubs", "interruptStub", "imageBase", "imageTextEnd", ...backEnd.leaves].map((name) => `${name}=8`),
    "leaveVmm=88",
    ...backEnd.callees,
    "--nested", "onException",
  ]);
}

/** Puts the checksum of everything after the first page into the header (struct us_image_header). */
function seal(image: string): void {
  const bytes = readFileSync(image);
  bytes.writeUInt32LE(crc32(bytes.subarray(PAGE)), CRC_OFFSET);
  writeFileSync(image, bytes);
}

function build(out: string, backEnd: BackEnd): void {
  mkdirSync(out, { recursive: true });
  run(process.execPath, [
    "compiler/understudy-compiler.cjs", "build", "vmm-src/entry/main.ts", "--project", backEnd.project, "--out-dir", out, "--externals", "vmm-src/machine/intrinsics.h",
  ]);
  const objects = [join(out, "vmm.o")];
  run("gcc", [...C_FLAGS, "-I", out, "-c", join(out, "vmm.c"), "-o", objects[0]!]);
  for (const name of ["header", "enter", "interrupts", ...backEnd.assembly.map((own) => `${backEnd.name}/${own}`)]) {
    const object = join(out, `${basename(name)}.o`);
    run("nasm", ["-f", "elf64", "-g", "-Werror=all", "-I", `${out}/`, "-o", object, `boot/${name}.asm`]);
    objects.push(object);
  }
  proveStack(out, backEnd);
  const elf = join(out, "vmm.elf");
  run("ld", ["-nostdlib", "-static", "-z", "noexecstack", "--no-warn-rwx-segments", "-z", "max-page-size=4096", "-T", "linker/vmm.ld", "-o", elf, ...objects]);
  const image = join(out, "vmm.img");
  run("objcopy", ["-O", "binary", elf, image]);
  seal(image);
}

for (const backEnd of backEnds) {
  const out = join(outputs, backEnd.name);
  if (isFresh(join(out, "vmm.img"))) continue;
  try {
    build(out, backEnd);
  } catch (error) {
    console.error(`vmm-${backEnd.name}: ${(error as Error).message}`);
    process.exit(1);
  }
  const size = execFileSync("size", [join(out, "vmm.elf")], { encoding: "utf8" }).split("\n")[1]!.trim().split(/\s+/);
  console.log(`vmm-${backEnd.name}: ${size[0]} bytes of text, ${size[2]} of zeroed storage`);
}
