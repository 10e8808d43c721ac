import { existsSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { unpackTree } from "./debian.ts";
import { cacheDir } from "./paths.ts";

/** A Bochs that can be started: `command` first, then Bochs' own arguments. */
export interface BochsProgram {
  command: string[];
  env: Record<string, string>;
  bios: string;
  vgaBios: string;
}

/** 2.7, Debian 12's, has VMX bugs that 3.0 has not (INIT exits, wait-for-SIPI, MTF, MWAIT). */
const wanted = 3;

function hostVersion(): number {
  const result = spawnSync("dpkg-query", ["-W", "-f", "${Version}", "bochs"], { encoding: "utf8" });
  return result.status === 0 ? parseFloat(result.stdout) : 0;
}

function at(root: string): Pick<BochsProgram, "bios" | "vgaBios"> {
  return { bios: `${root}/usr/share/bochs/BIOS-bochs-latest`, vgaBios: `${root}/usr/share/vgabios/vgabios.bin` };
}

/** The host's Bochs if it is 3.0 or later and complete, else Debian 13's, unpacked in our cache. */
export function getBochs(): BochsProgram {
  const plugins = "/usr/lib/x86_64-linux-gnu/bochs/plugins";
  if (hostVersion() >= wanted && existsSync(at("").bios) && existsSync(`${plugins}/libbx_term_gui.so`)) {
    return { command: ["bochs-bin"], env: {}, ...at("") };
  }
  const root = join(cacheDir, "bochs");
  if (!existsSync(root)) unpackTree("trixie", ["bochs", "bochs-term", "bochsbios", "vgabios"], root);
  const libraries = `${root}/usr/lib/x86_64-linux-gnu`;
  return {
    command: [`${libraries}/ld-linux-x86-64.so.2`, "--library-path", libraries, `${root}/usr/bin/bochs-bin`],
    env: { LTDL_LIBRARY_PATH: root + plugins, BXSHARE: `${root}/usr/share/bochs` },
    ...at(root),
  };
}
