import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeInitramfs } from "./initramfs.ts";
import { type Kernel, chosenKernels, getKernel } from "./kernel.ts";
import { buildParts, extraFiles } from "./parts.ts";
import { buildDir, projectDir } from "./paths.ts";
import { atomically, fail, run } from "./tools.ts";

/** What an ISO is made of; what isn't told is as the user chose it. */
export interface IsoOptions {
  /** Debian package of OS 1's kernel. */
  kernel1?: string;
  kernel2?: string;
  output?: string;
  /** Further files for OS 1: place in its initramfs → file of ours. */
  files?: Record<string, string>;
  /** What OS 1's kernel has on its command line besides. */
  append?: string;
}

interface Recipe {
  kernel1: Kernel;
  kernel2: Kernel;
  append: string;
  files: Record<string, string>;
  output: string;
}

/**
 * idle=halt: MWAIT tells an emulator nothing. tsc=reliable, no_timer_check: calibration needs a patience that tests
 * have not. cryptomgr.notests: the self-tests of ciphers are nearly half of a boot's instructions.
 */
export const commandLine =
  "console=ttyS0,115200 quiet nokaslr mitigations=off tsc=reliable no_timer_check idle=halt cryptomgr.notests";

/** What an instance needs on board to take memory that comes as soft reserved, and to prove with KVM that it runs bare. */
const os2Modules = ["nvme", "kvm", "kvm_intel", "kvm_amd", "irqbypass"];
const os1Modules = ["kvm", "kvm_intel", "kvm_amd", "irqbypass", "e1000", "nvme"];

const grubConfig = (commandLine: string) => `# "Linux" is Debian's kernel, packed so that an emulator unpacks it quickly: see boot/unpacked-kernel.asm.
set timeout=0
set default=0
# UEFI starts only what has an EFI stub.
if [ "$grub_platform" = efi ]; then insmod all_video; set default=1; fi

menuentry "Linux" {
	linux /boot/os1/kernel ${commandLine}
	initrd /boot/os1/initrd
}

menuentry "Linux, Debian's own compressed image" {
	linux /boot/os1/vmlinuz ${commandLine}
	initrd /boot/os1/initrd
}
`;

/** What an ISO is made of, as a text that differs when the ISO would. */
function describe(inputs: Record<string, string>, grub: string): string {
  const files = Object.entries(inputs).sort().map(([name, file]) => {
    // By content, not by time: build steps copy what didn't change.
    return `${name} ${createHash("sha1").update(readFileSync(file)).digest("hex")}`;
  });
  return [...files, grub].join("\n");
}

function prefixed(prefix: string, inputs: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(inputs).map(([name, file]) => [prefix + name, file]));
}

/** Makes the ISO: GRUB for BIOS and for UEFI machines, OS 1, and inside its initramfs OS 2. Bochs takes it as a disk. */
export function makeIso({ kernel1, kernel2, append, files, output }: Recipe): void {
  const grub = grubConfig(`${commandLine} ${append}`.trim());
  const recipes = Object.fromEntries(["iso", "initramfs", "cpio"].map((name) => [name, join(projectDir, `image/${name}.ts`)]));
  const made = describe(
    {
      ...recipes,
      init: join(projectDir, "image/init.sh"),
      kernel1: kernel1.flat,
      kernel2: kernel2.flat,
      ...prefixed("os1/", { ...extraFiles(kernel1), ...files }),
      ...prefixed("os2/", extraFiles(kernel2)),
    },
    grub,
  );
  const record = `${output}.made`;
  if (existsSync(output) && existsSync(record) && readFileSync(record, "utf8") === made) return;

  const tree = `${output}.tree-${process.pid}`;
  mkdirSync(join(tree, "boot/grub"), { recursive: true });
  mkdirSync(join(tree, "boot/os1"));
  const os2Initrd = join(tree, "os2.cpio");
  makeInitramfs({ kernel: kernel2, name: "os2", onBoard: os2Modules, files: extraFiles(kernel2) }, os2Initrd);
  const os2 = { "lib/understudy/os2/kernel": kernel2.flat, "lib/understudy/os2/initrd": os2Initrd };
  makeInitramfs(
    { kernel: kernel1, name: "os1", onBoard: os1Modules, files: { ...extraFiles(kernel1), ...os2, ...files } },
    join(tree, "boot/os1/initrd"),
  );
  rmSync(os2Initrd);
  copyFileSync(kernel1.flat, join(tree, "boot/os1/kernel"));
  copyFileSync(kernel1.vmlinuz, join(tree, "boot/os1/vmlinuz"));
  writeFileSync(join(tree, "boot/grub/grub.cfg"), grub);

  atomically(output, (temporary) => {
    run("grub-mkrescue", [
      "-o", temporary, tree,
      "--locales=", "--fonts=", "--themes=",
      "--", "-volid", "UNDERSTUDY",
    ]);
    padToCylinders(temporary);
  });
  rmSync(tree, { recursive: true });
  writeFileSync(record, made);
}

/** Bochs takes a flat disk of whole cylinders only. */
function padToCylinders(image: string): void {
  const cylinder = 16 * 63 * 512;
  truncateSync(image, Math.ceil(statSync(image).size / cylinder) * cylinder);
}

/**
 * Builds everything that goes on an ISO, and the ISO if anything changed; returns its path.
 * Kernels are those that the user chose (KERNEL, KERNEL1, KERNEL2) unless told.
 */
export function buildIso({ kernel1, kernel2, append = "", files = {}, output }: IsoOptions = {}): string {
  const chosen = chosenKernels();
  const one = getKernel(kernel1 ?? chosen.kernel1);
  const two = getKernel(kernel2 ?? chosen.kernel2);
  buildParts([one, two]);
  const difference = append + Object.keys(files).join();
  const variant = difference && "-" + createHash("sha256").update(difference).digest("hex").slice(0, 8);
  const path = output ?? join(buildDir, "iso", `${one.release}+${two.release}${variant}.iso`);
  makeIso({ kernel1: one, kernel2: two, append, files, output: path });
  return path;
}

if (import.meta.filename === process.argv[1]) {
  try {
    console.log(buildIso({ output: join(buildDir, "understudy.iso") }));
  } catch (error) {
    fail(error);
  }
}
