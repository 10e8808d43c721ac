import { type BochsMachine, startBochs } from "./bochs.ts";
import { type QemuMachine, startQemu } from "./qemu.ts";

export type TestMachine = BochsMachine | QemuMachine;

/** An emulator, and the kind of processors that it shows us. */
export interface Target {
  name: "bochs" | "qemu";
  start(options: { iso: string; cpus: number; memoryMiB: number; name: string; levels?: 4 | 5 }): Promise<TestMachine>;
  /** Of page tables that its processor offers, unless told otherwise. Bochs' models that can have 5 have clocks that Linux gets lost in. */
  levels: 4 | 5;
  /** The VMM's back end for it, its image, and KVM's module. */
  backEnd: "vmx" | "svm";
  image: string;
  kvm: string;
  /** What the command says while KVM runs a guest. */
  inUse: RegExp;
  /** A network card's function, as a configuration address; what its device and the host bridge are; PM1 control. */
  card: number;
  cardId: number;
  cardResource: string;
  bridgeId: number;
  pm1Control: number;
  /** Whether processors in the VMM reach each other by NMI (decision 0010). */
  signalsByNmi: boolean;
  /** Whether a processor's ticks are its own instructions, so that bounds on them hold. In QEMU they are also those of the others. */
  countsInstructions: boolean;
}

export const bochs: Target = { name: "bochs", start: startBochs, backEnd: "vmx", levels: 4,
  image: "/lib/understudy/vmm-vmx.img", kvm: "kvm_intel", countsInstructions: true, signalsByNmi: false,
  inUse: /^understudy: VT-x is in use \(CR4\.VMXE is set on CPU \d\): stop its guests and unload kvm_intel$/,
  card: 0x80001000, cardId: 0x100e8086, cardResource: "0000:00:02.0", bridgeId: 0x12378086, pm1Control: 0xb004,
};
export const qemu: Target = { name: "qemu", start: startQemu, backEnd: "svm", levels: 5,
  image: "/lib/understudy/vmm-svm.img", kvm: "kvm_amd", countsInstructions: false, signalsByNmi: true,
  inUse: /^understudy: AMD-V is in use \(EFER\.SVME is set on CPU \d\): stop its guests and unload kvm_amd$/,
  card: 0x80001800, cardId: 0x100e8086, cardResource: "0000:00:03.0", bridgeId: 0x29c08086, pm1Control: 0x604,
};

/** VT-x in Bochs, AMD-V in QEMU. */
export const targets = [bochs, qemu];
