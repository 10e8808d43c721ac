import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { buildDir, projectDir } from "../image/paths.ts";
import { run } from "../image/tools.ts";
import { startQemu } from "../test/machine/qemu.ts";
import type { Machine, MachineOptions } from "./machine.ts";

/** A tiny guest of our own tells what KVM's files and parameters only promise. */
const probe = join(buildDir, "programs/kvm-guest");

/** What keeps a guest of this host's KVM from having VT-x itself; nothing if all is there. */
export function missingForKvm(): string | undefined {
  if (!existsSync("/dev/kvm")) return "there is no /dev/kvm (modprobe kvm_intel)";
  run("make", ["-C", join(projectDir, "test/programs"), `OUT=${dirname(probe)}`]);
  const { status, stdout, stderr, error } = spawnSync(probe, { encoding: "utf8", timeout: 20_000 });
  if (error) return `/dev/kvm runs no guest: a tiny one did not end (${error.message})`;
  if (status !== 0) return `/dev/kvm runs no guest: ${stderr.trim()}`;
  if (!(JSON.parse(stdout) as { nested: boolean }).nested) {
    const parameter = "/sys/module/kvm_intel/parameters/nested";
    const said = existsSync(parameter) ? `nested=${readFileSync(parameter, "utf8").trim()}` : "kvm_intel is not loaded here";
    return `this host's KVM gives its guests no VT-x (${said}; modprobe kvm_intel nested=1)`;
  }
  return undefined;
}

/** A machine that QEMU runs on KVM with nested VT-x. */
export function startKvm(options: MachineOptions): Promise<Machine> {
  return startQemu({ ...options, accel: ["-accel", "kvm"], cpu: "host,+vmx" });
}
