import { copyFileSync, existsSync, mkdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeInitramfs } from "./initramfs.ts";
import { type Kernel, chosenKernels, getKernel } from "./kernel.ts";
import { buildDir } from "./paths.ts";
import { atomically, fail, run } from "./tools.ts";

/** What the systems on the ISO are made of. */
export interface IsoOptions {
  kernel1: Kernel;
  kernel2: Kernel;
  output: string;
}

/** idle=halt: MWAIT tells an emulator nothing. tsc=reliable, no_timer_check: calibration needs a patience that tests have not. */
export const commandLine = "console=ttyS0,115200 quiet nokaslr mitigations=off tsc=reliable no_timer_check idle=halt";

/** What an instance needs on board to take memory that comes as soft reserved, and to prove with KVM that it runs bare. */
const os2Modules = ["dax_hmem", "device_dax", "kmem", "kvm", "kvm_intel", "irqbypass"];
const os1Modules = ["kvm", "kvm_intel", "irqbypass", "e1000"];

/** What other parts of the project have built for a kernel; what isn't there yet is left out. */
export function extraFiles(kernel: Kernel): Record<string, string> {
  const files: Record<string, string> = {
    "lib/understudy/understudy.ko": join(buildDir, "linux", kernel.release, "understudy.ko"),
    "lib/understudy/vmm.img": join(buildDir, "vmm/vmm.img"),
    "bin/understudy": join(buildDir, "linux/understudy"),
  };
  return Object.fromEntries(Object.entries(files).filter(([, file]) => existsSync(file)));
}

const grubConfig = `# The kernels of "Linux" are unpacked already: see boot/unpacked-kernel.asm.
set timeout=0
set default=0

menuentry "Linux" {
	linux /boot/os1/kernel ${commandLine}
	initrd /boot/os1/initrd
}

menuentry "Linux, Debian's own compressed image" {
	linux /boot/os1/vmlinuz ${commandLine}
	initrd /boot/os1/initrd
}
`;

/** Makes the ISO: GRUB for BIOS machines, OS 1, and inside its initramfs OS 2. Bochs takes it as a disk. */
export function makeIso({ kernel1, kernel2, output }: IsoOptions): void {
  const tree = join(buildDir, "iso");
  mkdirSync(join(tree, "boot/grub"), { recursive: true });
  mkdirSync(join(tree, "boot/os1"), { recursive: true });

  const os2Initrd = join(buildDir, "os2.cpio");
  makeInitramfs({ kernel: kernel2, name: "os2", onBoard: os2Modules, files: extraFiles(kernel2) }, os2Initrd);
  const os2 = { "lib/understudy/os2/kernel": kernel2.flat, "lib/understudy/os2/initrd": os2Initrd };
  makeInitramfs(
    { kernel: kernel1, name: "os1", onBoard: os1Modules, files: { ...extraFiles(kernel1), ...os2 } },
    join(tree, "boot/os1/initrd"),
  );
  copyFileSync(kernel1.flat, join(tree, "boot/os1/kernel"));
  copyFileSync(kernel1.vmlinuz, join(tree, "boot/os1/vmlinuz"));
  writeFileSync(join(tree, "boot/grub/grub.cfg"), grubConfig);

  const modules = "linux normal iso9660 biosdisk serial terminal echo test multiboot2";
  atomically(output, (temporary) => {
    run("grub-mkrescue", [
      "-d", "/usr/lib/grub/i386-pc", "-o", temporary, tree,
      `--install-modules=${modules}`, "--locales=", "--fonts=", "--themes=",
      "--", "-volid", "UNDERSTUDY",
    ]);
    padToCylinders(temporary);
  });
}

/** Bochs takes a flat disk of whole cylinders only. */
function padToCylinders(image: string): void {
  const cylinder = 16 * 63 * 512;
  truncateSync(image, Math.ceil(statSync(image).size / cylinder) * cylinder);
}

if (import.meta.filename === process.argv[1]) {
  try {
    const { kernel1, kernel2 } = chosenKernels();
    const output = join(buildDir, "understudy.iso");
    makeIso({ kernel1: getKernel(kernel1), kernel2: getKernel(kernel2), output });
    console.log(output);
  } catch (error) {
    fail(error);
  }
}
