import { existsSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { unpackTree } from "./debian.ts";
import { cacheDir } from "./paths.ts";

/** A QEMU that can be started: `command` first, then QEMU's own arguments. */
export interface QemuProgram {
  command: string[];
  env: Record<string, string>;
  /** Folder of the UEFI firmware for it: OVMF_CODE_4M.fd, OVMF_VARS_4M.fd. */
  ovmf: string;
}

/** Debian 13's: from it on, the emulated processor has an x2APIC. */
const wanted = 10;

function hostVersion(): number {
  const result = spawnSync("dpkg-query", ["-W", "-f", "${Version}", "qemu-system-x86"], { encoding: "utf8" });
  return result.status === 0 ? parseFloat(result.stdout.replace(/^\d+:/, "")) : 0;
}

/** The host's QEMU if it is 10.0 or later, else Debian 13's, unpacked in our cache. */
export function getQemu(): QemuProgram {
  const complete = ["/usr/share/seabios", "/usr/share/OVMF/OVMF_CODE_4M.fd"].every((path) => existsSync(path));
  if (hostVersion() >= wanted && complete) return { command: ["qemu-system-x86_64"], env: {}, ovmf: "/usr/share/OVMF" };
  const root = join(cacheDir, "qemu");
  if (!existsSync(root)) unpackTree("trixie", ["qemu-system-x86", "seabios", "ovmf"], root);
  const libraries = `${root}/usr/lib/x86_64-linux-gnu`;
  return {
    command: [
      `${libraries}/ld-linux-x86-64.so.2`, "--library-path", `${libraries}:${libraries}/pulseaudio`, `${root}/usr/bin/qemu-system-x86_64`,
      "-L", `${root}/usr/share/qemu`, "-L", `${root}/usr/share/seabios`,
    ],
    // Its modules lie in the folder too: the host's would be another version's.
    env: { QEMU_MODULE_DIR: `${libraries}/qemu` },
    ovmf: `${root}/usr/share/OVMF`,
  };
}
