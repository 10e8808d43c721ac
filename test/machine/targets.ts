import { type BochsMachine, startBochs } from "./bochs.ts";
import { type QemuMachine, startQemu } from "./qemu.ts";

export type TestMachine = BochsMachine | QemuMachine;

/** An emulator, and the kind of processors that it shows us. */
export interface Target {
  name: "bochs" | "qemu";
  start(options: { iso: string; cpus: number; memoryMiB: number; name: string }): Promise<TestMachine>;
  /** The VMM's image and KVM's module for it. */
  image: string;
  kvm: string;
  /** A network card's function, as a configuration address; what its device and the host bridge are; PM1 control. */
  card: number;
  cardId: number;
  cardResource: string;
  bridgeId: number;
  pm1Control: number;
  /** Whether a processor's ticks are its own instructions, so that bounds on them hold. In QEMU they are also those of the others. */
  countsInstructions: boolean;
}

export const bochs: Target = { name: "bochs", start: startBochs, 
  image: "/lib/understudy/vmm-vmx.img", kvm: "kvm_intel", countsInstructions: true,
  card: 0x80001000, cardId: 0x100e8086, cardResource: "0000:00:02.0", bridgeId: 0x12378086, pm1Control: 0xb004,
};
export const qemu: Target = { name: "qemu", start: startQemu, 
  image: "/lib/understudy/vmm-svm.img", kvm: "kvm_amd", countsInstructions: false,
  card: 0x80001800, cardId: 0x100e8086, cardResource: "0000:00:03.0", bridgeId: 0x29c08086, pm1Control: 0x604,
};

/** VT-x in Bochs, AMD-V in QEMU. */
export const targets = [bochs, qemu];
