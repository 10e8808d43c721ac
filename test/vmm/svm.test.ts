import { describe, expect, test } from "vitest";
import { GIB, MIB } from "./firmware.ts";
import { BASE, BUFFER, HYPERCALL, LOAD, SIZE, bootBeside, inb, load, mapKernel, outb, sendIpi, store } from "./scenario.ts";
import { EFER, HSAVE, NMI_EXIT, SvmVmm, VM_CR } from "./svm.ts";
import { ANNEX, KERNEL_CR3, KERNEL_RIP, KERNEL_RSP, OK, RAX, RBX, RCX, RDX, REGION, RSI, Reason } from "./vmm.ts";

const APIC = 0xfee0_0000n;
const RUNNING = 1, WAITING = 2, PARKED = 3;
const [NMI, INIT, SIPI] = [0x4400, 0xc500, 0x4600];
const SVME = 0x1000n;
const EXCEPTION = 0x8000_0300n;
const EVENT_NMI = 0x8000_0202n;
const VINTR_EXIT = 0x64n;
const IRET_EXIT = 0x74n;
const IRET = 0x10_0000n;
const VINTR = 0x10n;

const states = (vmm: SvmVmm): number[] => vmm.machine.processors.map(({ index }) => vmm.cpu(index).state);
const captured = (apicIds?: number[]): SvmVmm => SvmVmm.captured(apicIds ? { apicIds } : {});
/** Two instances: the first on processor 0, the second on 1 and 2. */
const pair = (): SvmVmm => bootBeside(captured([0, 1, 2]), 0b110n);

interface Page { host: bigint; write: boolean; execute: boolean; size: bigint }

/** What an instance reaches, by its nested tables (APM Vol. 2, 15.25.5): every level must allow a user's access. */
function walk(vmm: SvmVmm, instance: number, address: bigint): Page | null {
  let table: bigint = vmm.call.mapPointer!(instance);
  let [write, execute] = [true, true];
  for (const shift of [39n, 30n, 21n, 12n]) {
    const entry = vmm.machine.memory.read(table + ((address >> shift) & 511n) * 8n, 8);
    if ((entry & 1n) === 0n) return null;
    if ((entry & 4n) === 0n) throw new Error("a nested entry without the user bit");
    write &&= (entry & 2n) !== 0n;
    execute &&= entry >> 63n === 0n;
    const frame = entry & 0xf_ffff_ffff_f000n;
    if (shift === 12n || (entry & 0x80n) !== 0n) return { host: frame | (address & ((1n << shift) - 1n)), write, execute, size: 1n << shift };
    table = frame;
  }
  return null;
}

describe("capability", () => {
  const refusal = (change: (vmm: SvmVmm) => void): number => {
    const vmm = new SvmVmm();
    change(vmm);
    return vmm.prepare();
  };

  test.each<[string, (vmm: SvmVmm) => void]>([
    ["no extended leaves", (vmm) => vmm.machine.cpuid.set(`${0x8000_0000}`, [0x8000_0008, 0, 0, 0])],
    ["no SVM", (vmm) => vmm.machine.cpuid.set(`${0x8000_0001}`, [0, 0, 0, 0x2c10_0800])],
    ["no nested paging", (vmm) => vmm.machine.cpuid.set(`${0x8000_000a}`, [1, 16, 0, 0])],
    ["too few ASIDs", (vmm) => vmm.machine.cpuid.set(`${0x8000_000a}`, [1, 2, 0, 1])],
    ["SVMDIS in VM_CR", (vmm) => vmm.machine.now.msrs.set(VM_CR, 0x10n)],
  ])("is refused for %s", (_what, change) => {
    expect(refusal(change)).toBe(new SvmVmm().result.CAPABILITY);
  });

  test("a capture is refused when EFER.SVME is set already, and the processor is as it was", () => {
    const vmm = new SvmVmm();
    expect(vmm.prepare()).toBe(OK);
    const { msrs } = vmm.machine.now;
    msrs.set(EFER, 0x1d01n);
    expect(vmm.capture(0)).toBe(vmm.result.PROCESSOR);
    expect([msrs.get(EFER), msrs.get(HSAVE), vmm.cpu(0).state]).toEqual([0x1d01n, 0n, 0]);
  });
});

describe("a captured kernel", () => {
  const vmm = captured();

  test("goes on with its next instruction, as it was", () => {
    const processor = vmm.machine.processors[0]!;
    const expected: Record<string, bigint> = {
      GUEST_RIP: KERNEL_RIP, GUEST_RSP: KERNEL_RSP, GUEST_CR3: KERNEL_CR3, GUEST_CR0: processor.cr0, GUEST_CR4: processor.cr4, GUEST_CR2: 0x7fff_1000n,
      GUEST_EFER: 0xd01n | SVME, GUEST_DR7: 0x400n, GUEST_DR6: 0xffff_0ff0n, GUEST_RFLAGS: 2n, GUEST_PAT: 0x7040600070406n, CPL: 0n,
      GUEST_CS_SELECTOR: 0x10n, GUEST_CS_ACCESS_RIGHTS: 0xa9bn, GUEST_CS_LIMIT: 0xffff_ffffn, GUEST_SS_SELECTOR: 0x18n, GUEST_SS_ACCESS_RIGHTS: 0xc93n,
      GUEST_GDTR_BASE: processor.gdtr.base, GUEST_GDTR_LIMIT: 0x7fn, GUEST_IDTR_BASE: processor.idtr.base, GUEST_IDTR_LIMIT: 0xfffn,
    };
    expect(Object.fromEntries(Object.keys(expected).map((field) => [field, vmm.read(0, field)]))).toEqual(expected);
    // What VMRUN leaves alone was saved for the day when the processor changes its virtual CPU.
    expect(vmm.svm(0).loaded).toBe(vmm.vcpu(0).control);
  });

  test("has an address space of its own, whose tables are its instance's", () => {
    expect([0, 1].map((cpu) => [vmm.read(cpu, "ASID"), vmm.read(cpu, "NESTED_CR3")])).toEqual(Array(2).fill([1n, vmm.call.mapPointer!(1)]));
    expect(vmm.svm(0).flushes).toBe(1);
    for (const at of [0n, 0x9f000n, MIB, GIB, 3n * GIB, 100n * GIB]) expect(walk(vmm, 1, at)).toMatchObject({ host: at, write: true, execute: true });
    expect([REGION, REGION + 0x3f_f000n, ANNEX, ANNEX + 0x3f_f000n].map((at) => walk(vmm, 1, at))).toEqual(Array(4).fill(null));
    // Its interrupt commands are looked at, since INIT and SIPI do not exit.
    expect([walk(vmm, 1, APIC)!.write, walk(vmm, 1, APIC)!.size, walk(vmm, 1, 0xfec0_0000n)!.write]).toEqual([false, 4096n, true]);
  });

  test("exits for the MSRs in which SVM shows, and for no others", () => {
    const bitmap = vmm.read(0, "MSRPM");
    const bits = (msr: number): number => {
      const offset = msr >= 0xc001_0000 ? 0x1000 : msr >= 0xc000_0000 ? 0x800 : 0;
      const number = 2 * (msr & 0x1fff);
      return (Number(vmm.machine.memory.read(bitmap + BigInt(offset + (number >> 3)), 1)) >> (number & 7)) & 3;
    };
    expect([EFER, VM_CR, HSAVE, 0x1b, 0x830].map(bits)).toEqual([3, 2, 3, 2, 2]);
    expect([0x10, 0x277, 0x2ff, 0xc000_0082, 0xc000_0101, 0xc001_0010, 0xc001_0015].map(bits)).toEqual(Array(7).fill(0));
  });

  test("is answered by CPUID as by the bare machine, but for who is beneath", () => {
    const own = captured();
    const cpuid = (leaf: number, length = 2n): bigint[] => {
      own.setRegister(0, RAX, BigInt(leaf));
      own.setRegister(0, RCX, 0n);
      const rip = own.read(0, "GUEST_RIP");
      own.exit(0, Reason.CPUID);
      expect(own.read(0, "GUEST_RIP") - rip).toBe(length);
      return [RAX, RBX, RCX, RDX].map((register) => own.register(0, register));
    };
    expect(cpuid(0x8000_0001)).toEqual([0n, 0n, 4n, 0x2c10_0800n]);
    expect(cpuid(0x4000_0000)).toEqual([0x4000_0001n, 0x65646e55n, 0x75747372n, 0x20207964n]);
    // Where the processor says where the next instruction is, that is believed.
    own.write(0, "NEXT_RIP", own.read(0, "GUEST_RIP") + 3n);
    cpuid(1, 3n);
  });

  test("steps over an instruction with the trap flag's exception, and out of STI's shadow", () => {
    const own = captured();
    own.write(0, "GUEST_RFLAGS", 0x102n);
    own.write(0, "SHADOW", 1n);
    own.exit(0, Reason.CPUID);
    expect([own.injected[0], own.read(0, "SHADOW"), own.read(0, "GUEST_DR6") & 0x4000n]).toEqual([EXCEPTION | 1n, 0n, 0x4000n]);
  });

  test.each([0x80n, 0x82n, 0x83n, 0x84n, 0x85n, 0x86n, 0x7an])("gets #UD for the SVM instruction of exit code %s", (code) => {
    const own = captured();
    const rip = own.read(0, "GUEST_RIP");
    own.exitByCode(0, code);
    expect([own.injected[0], own.read(0, "GUEST_RIP")]).toEqual([EXCEPTION | 6n, rip]);
  });

  test("is delivered again what an exit has interrupted", () => {
    const own = captured();
    own.exit(0, Reason.VMCALL, { vectoring: 0x8000_0030n });
    expect(own.injected[0]).toBe(0x8000_0030n);
  });

  test("that nobody can go on with ends the machine's only instance by reset", () => {
    const own = captured();
    own.exit(0, Reason.EPT_MISCONFIGURATION);
    expect([own.gone.get(0)?.how, own.machine.portWrites.filter(({ port }) => port === 0xcf9)]).toEqual(["halted", [{ port: 0xcf9, size: 1, value: 6 }]]);
  });
});

describe("EFER", () => {
  const rdmsr = (vmm: SvmVmm, msr: number): bigint => {
    vmm.setRegister(0, RCX, BigInt(msr));
    vmm.exit(0, Reason.RDMSR);
    return (vmm.register(0, RDX) << 32n) | vmm.register(0, RAX);
  };
  /** What was injected; null if the write was carried out. */
  const wrmsr = (vmm: SvmVmm, msr: number, value: bigint): bigint | null => {
    vmm.setRegister(0, RCX, BigInt(msr));
    vmm.setRegister(0, RAX, value & 0xffff_ffffn);
    vmm.setRegister(0, RDX, value >> 32n);
    const rip = vmm.read(0, "GUEST_RIP");
    vmm.exit(0, Reason.WRMSR);
    expect(vmm.read(0, "GUEST_RIP") - rip).toBe(vmm.injected[0] ? 0n : 2n);
    return vmm.injected[0]!;
  };
  const GP = EXCEPTION | 0x800n | 13n;

  test("shows a captured kernel that SVM is in use, and SVME stays set whatever it writes", () => {
    const vmm = captured();
    expect(rdmsr(vmm, EFER)).toBe(0x1d01n);
    for (const value of [0x500n, 0x1500n]) expect([wrmsr(vmm, EFER, value), rdmsr(vmm, EFER), vmm.read(0, "GUEST_EFER")]).toEqual([null, 0x1500n, 0x1500n]);
  });

  test("shows a kernel that boots beneath the VMM nothing of it, until its module is there", () => {
    const vmm = pair();
    const read = (): bigint => {
      vmm.setRegister(1, RCX, BigInt(EFER));
      vmm.exit(1, Reason.RDMSR);
      return vmm.register(1, RAX);
    };
    expect(read()).toBe(0x500n);
    vmm.setRegister(1, RAX, 0x1500n);
    vmm.exit(1, Reason.WRMSR);
    expect(vmm.injected[1]).toBe(GP);
    expect(vmm.hypercall(1, HYPERCALL.ATTACH)).toBe(OK);
    expect(read()).toBe(0x1500n);
  });

  test.each([
    ["a reserved bit", 0x8_0000_0d01n], ["a bit of a feature that CPUID does not show", 0x8d01n], ["LME cleared while paging is on", 0xc01n],
  ])("with %s is refused and noted", (_what, value) => {
    const vmm = captured();
    const from = vmm.call.nextSequence!();
    expect(wrmsr(vmm, EFER, value)).toBe(GP);
    expect(vmm.read(0, "GUEST_EFER")).toBe(0xd01n | SVME);
    expect(vmm.events(from).map(({ type, a }) => [type, a])).toEqual([["MSR_VIOLATION", BigInt(EFER) | (1n << 32n)]]);
  });

  test("and the other MSRs of SVM are what they are where SVM is not used", () => {
    const vmm = captured();
    expect([wrmsr(vmm, VM_CR, 0x10n), wrmsr(vmm, HSAVE, 0x1000n), rdmsr(vmm, HSAVE)]).toEqual([null, null, 0n]);
    expect([vmm.machine.now.msrs.get(VM_CR), vmm.machine.now.msrs.get(HSAVE)! > REGION]).toEqual([0n, true]);
    rdmsr(vmm, 0x1234_5678);
    expect(vmm.injected[0]).toBe(GP);
  });
});

describe("an NMI of the machine's", () => {
  const intercepts = (vmm: SvmVmm): bigint => vmm.read(0, "INTERCEPT1");

  test("is the kernel's, and its handler's IRET exits", () => {
    const vmm = captured();
    vmm.nmi(0);
    expect([vmm.injected[0], intercepts(vmm) & IRET, vmm.svm(0).nmi]).toEqual([EVENT_NMI, IRET, false]);
    vmm.exitByCode(0, IRET_EXIT);
    expect([vmm.injected[0], intercepts(vmm) & (IRET | VINTR)]).toEqual([null, 0n]);
  });

  test("that arrives in the handler waits until the kernel takes interrupts again", () => {
    const vmm = captured();
    vmm.nmi(0);
    vmm.nmi(0);
    expect([vmm.injected[0], vmm.vcpu(0).nmiPending, intercepts(vmm) & VINTR]).toEqual([null, 1, 0n]);
    vmm.exitByCode(0, IRET_EXIT);
    expect([intercepts(vmm) & VINTR, vmm.read(0, "INTERRUPT_CONTROL") & 0x100n]).toEqual([VINTR, 0x100n]);
    vmm.exitByCode(0, VINTR_EXIT);
    expect([vmm.injected[0], vmm.vcpu(0).nmiPending, intercepts(vmm) & (IRET | VINTR), vmm.read(0, "INTERRUPT_CONTROL")]).toEqual([EVENT_NMI, 0, IRET, 0n]);
  });

  test("behind STI waits for the next instruction", () => {
    const vmm = captured();
    vmm.write(0, "SHADOW", 1n);
    vmm.nmi(0);
    expect([vmm.injected[0], intercepts(vmm) & VINTR]).toEqual([null, VINTR]);
  });

  test("beside an event whose delivery it interrupted follows that", () => {
    const vmm = captured();
    vmm.write(0, "EXIT_INTERRUPTION", 0n);
    vmm.svm(0).nmi = true;
    vmm.exit(0, -Number(NMI_EXIT), { vectoring: 0x8000_0030n });
    expect([vmm.injected[0], vmm.vcpu(0).nmiPending]).toEqual([0x8000_0030n, 1]);
  });

  test("that it still owes goes with the release", () => {
    const vmm = captured();
    vmm.nmi(0);
    vmm.nmi(0);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0b11n })).toBe(OK);
    vmm.hypercall(0, HYPERCALL.RELEASE);
    const { vcpu } = vmm.view("ReleaseState", vmm.gone.get(0)!.state);
    expect([vcpu, vmm.machine.memory.read(vmm.vcpu(0, 1).registers + BigInt(8 * RDX), 8)]).toEqual([vmm.call.vcpuOf!(1, 0), 1n]);
  });
});

describe("a kernel's own processors", () => {
  test("are started by the VMM: no INIT and no SIPI goes out", () => {
    const vmm = captured();
    mapKernel(vmm);
    vmm.machine.ipis.length = 0;
    sendIpi(vmm, 0, INIT, 1);
    expect([states(vmm), vmm.svm(1).waits]).toEqual([[RUNNING, WAITING], true]);
    sendIpi(vmm, 0, SIPI | 0x9a, 1);
    expect([states(vmm), vmm.svm(1).waits, vmm.read(1, "GUEST_CS_SELECTOR"), vmm.read(1, "GUEST_CS_BASE"), vmm.read(1, "GUEST_RIP")]).toEqual([[RUNNING, RUNNING], false, 0x9a00n, 0x9a000n, 0n]);
    expect(["GUEST_CR0", "GUEST_CR4", "GUEST_EFER", "GUEST_CR3", "GUEST_CS_ACCESS_RIGHTS"].map((field) => vmm.read(1, field))).toEqual([0x6000_0010n, 0n, SVME, 0n, 0x9bn]);
    expect(new Set(vmm.machine.ipis.map(({ to, mode }) => `${to}:${mode}`))).toEqual(new Set(["1:4"]));
    // The second SIPI, which Linux sends to be sure, is ignored as hardware does.
    const rip = vmm.write(1, "GUEST_RIP", 0x123n);
    sendIpi(vmm, 0, SIPI | 0x55, 1);
    expect([rip, vmm.read(1, "GUEST_RIP"), vmm.cpu(1).guestSipi]).toEqual([undefined, 0x123n, 0]);
  });

  test("get every other command as it was sent", () => {
    const vmm = captured([0, 1, 2]);
    mapKernel(vmm);
    vmm.machine.ipis.length = 0;
    sendIpi(vmm, 0, 0x4031, 2);
    sendIpi(vmm, 0, 0xc4032);
    expect(vmm.machine.ipis).toEqual([{ from: 0, to: 2, mode: 0, vector: 0x31 }, { from: 0, to: 1, mode: 0, vector: 0x32 }, { from: 0, to: 2, mode: 0, vector: 0x32 }]);
  });

  test("that are not captured get INIT and SIPI as they are", () => {
    const vmm = SvmVmm.captured({}, [0]);
    mapKernel(vmm);
    vmm.machine.ipis.length = 0;
    sendIpi(vmm, 0, INIT, 1);
    sendIpi(vmm, 0, SIPI | 0x9a, 1);
    expect(vmm.machine.ipis.map(({ to, mode, vector }) => [to, mode, vector])).toEqual([[1, 5, 0], [1, 6, 0x9a]]);
  });

  test("take an NMI that another one sends as theirs", () => {
    const vmm = captured();
    mapKernel(vmm);
    sendIpi(vmm, 0, NMI, 1);
    expect(vmm.injected[1]).toBe(EVENT_NMI);
  });

  test("do not take the VMM's signals for theirs", () => {
    const vmm = captured();
    expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: 8192n })).toBe(OK);
    expect([vmm.machine.ipis.some(({ to, mode }) => to === 1 && mode === 4), vmm.injected[1]]).toEqual([true, null]);
  });
});

describe("a second instance", () => {
  test("starts at the kernel's 64-bit entry, its other processors waiting in the VMM", () => {
    const vmm = pair();
    const expected: Record<string, bigint> = {
      GUEST_RIP: LOAD + 0x200n, GUEST_RFLAGS: 2n, GUEST_CR0: 0x8000_0031n, GUEST_CR4: 0x20n, GUEST_EFER: 0x500n | SVME, ASID: 2n, GUEST_PAT: 0x7040600070406n,
      GUEST_CS_SELECTOR: 0x10n, GUEST_CS_ACCESS_RIGHTS: 0xa9bn, GUEST_DS_SELECTOR: 0x18n, GUEST_SS_ACCESS_RIGHTS: 0xc93n, GUEST_IDTR_LIMIT: 0n, NESTED_CR3: vmm.call.mapPointer!(2),
    };
    expect(Object.fromEntries(Object.keys(expected).map((field) => [field, vmm.read(1, field)]))).toEqual(expected);
    expect([states(vmm), vmm.svm(2).waits, vmm.svm(1).loaded]).toEqual([[RUNNING, RUNNING, WAITING], true, vmm.vcpu(1).control]);
    const params = vmm.register(1, RSI);
    expect(params >= BASE && params < BASE + SIZE).toBe(true);
  });

  test("reaches its range at its own address and its low memory, and nothing of anybody else", () => {
    const vmm = pair();
    expect(walk(vmm, 2, 0x8000n)).toMatchObject({ host: BASE + 0x8000n, write: true, execute: true });
    expect(walk(vmm, 2, BASE + 2n * MIB)).toMatchObject({ host: BASE + 2n * MIB });
    expect([BASE - 1n, BASE + SIZE, REGION, ANNEX, GIB].map((at) => walk(vmm, 2, at))).toEqual(Array(5).fill(null));
    expect([walk(vmm, 2, APIC)!.write, walk(vmm, 1, BASE), walk(vmm, 1, BASE + SIZE)!.host]).toEqual([false, null, BASE + SIZE]);
  });

  test("is stopped at what is not its own: reads give ones, writes are lost, and both are noted", () => {
    const vmm = pair();
    const from = vmm.call.nextSequence!();
    vmm.machine.memory.write(0x300_0000n, 8, 0x1234n);
    store(vmm, 1, 0x300_0000n, 0x5555n);
    expect([load(vmm, 1, 0x300_0000n), vmm.machine.memory.read(0x300_0000n, 8)]).toEqual([0xffff_ffffn, 0x1234n]);
    expect(vmm.events(from).map(({ type, instance, a }) => [type, instance, a])).toEqual(Array(2).fill(["MEMORY_VIOLATION", 2, 0x300_0000n]));
  });

  test("starts its processor by INIT and SIPI of its own, and reaches no other", () => {
    const vmm = pair();
    const from = vmm.call.nextSequence!();
    sendIpi(vmm, 1, SIPI | 0x9a, 2);
    expect([states(vmm), vmm.read(2, "GUEST_CS_BASE")]).toEqual([[RUNNING, RUNNING, RUNNING], 0x9a000n]);
    for (const command of [INIT, SIPI | 0x10, NMI, 0x4031]) sendIpi(vmm, 1, command, 0);
    expect([states(vmm), vmm.injected[0]]).toEqual([[RUNNING, RUNNING, RUNNING], null]);
    expect(vmm.events(from).map(({ type }) => type)).toEqual(["CPU_STARTED", ...Array(4).fill("IPI_VIOLATION")]);
  });

  test("has shadows of the platform's ports, and its sleep ends only it", () => {
    const vmm = pair();
    outb(vmm, 1, 0x21, 0xfb);
    expect(inb(vmm, 1, 0x21)).toBe(0xfb);
    const rip = vmm.read(1, "GUEST_RIP");
    inb(vmm, 1, 0x61);
    expect(vmm.read(1, "GUEST_RIP") - rip).toBe(1n);
    outb(vmm, 1, 0x604, 0x3401, 2);
    expect([states(vmm), vmm.instance(2).state, vmm.svm(1).waits, vmm.svm(2).waits]).toEqual([[RUNNING, PARKED, PARKED], 2, true, true]);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect([states(vmm), walk(vmm, 1, BASE)!.host]).toEqual([[RUNNING, WAITING, WAITING], BASE]);
    sendIpi(vmm, 0, INIT, 1);
    sendIpi(vmm, 0, SIPI | 0x99, 1);
    expect([states(vmm), vmm.read(1, "GUEST_CS_BASE"), vmm.read(1, "ASID")]).toEqual([[RUNNING, RUNNING, WAITING], 0x99000n, 1n]);
  });

  test("that triple-faults ends, and the other one goes on", () => {
    const vmm = pair();
    vmm.exit(1, Reason.TRIPLE_FAULT);
    expect([vmm.instance(1).state, vmm.instance(2).state, states(vmm)]).toEqual([1, 2, [RUNNING, PARKED, PARKED]]);
  });

  test("takes over what the first one leaves, starts its processor, and is released bare", () => {
    const vmm = pair();
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([vmm.instance(1).state, states(vmm)]).toEqual([2, [PARKED, RUNNING, WAITING]]);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([states(vmm), walk(vmm, 2, 0x8000n)!.host, walk(vmm, 2, 3n * GIB)!.host, walk(vmm, 2, REGION), walk(vmm, 2, ANNEX)]).toEqual([[WAITING, RUNNING, WAITING], 0x8000n, 3n * GIB, null, null]);
    vmm.machine.ipis.length = 0;
    for (const processor of [0, 2]) {
      sendIpi(vmm, 1, INIT, processor);
      sendIpi(vmm, 1, SIPI | 0x9a, processor);
    }
    expect([states(vmm), vmm.machine.ipis.every(({ mode }) => mode === 4)]).toEqual([[RUNNING, RUNNING, RUNNING], true]);
    expect(vmm.hypercall(1, HYPERCALL.RELEASE_BEGIN, { rdx: 0b111n })).toBe(OK);
    for (const processor of [0, 1, 2]) vmm.hypercall(processor, HYPERCALL.RELEASE);
    expect([0, 1, 2].map((processor) => [vmm.gone.get(processor)?.how, vmm.cpu(processor).state])).toEqual(Array(3).fill(["released", 0]));
  });
});

describe("a release", () => {
  test("puts back what VMRUN switched, and goes on after the hypercall", () => {
    const vmm = captured();
    const [pat, dr7] = [0x7010600070106n, 0x455n];
    vmm.write(0, "GUEST_PAT", pat);
    vmm.write(0, "GUEST_DR7", dr7);
    vmm.write(0, "GUEST_CR4", 0x1706b0n);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0b11n })).toBe(OK);
    const rip = vmm.read(0, "GUEST_RIP");
    const idt = vmm.read(0, "GUEST_IDTR_BASE");
    vmm.hypercall(0, HYPERCALL.RELEASE);
    const state = vmm.view("ReleaseState", vmm.gone.get(0)!.state);
    const { msrs, dr7: real } = vmm.machine.processors[0]!;
    expect([state.rip, state.rsp, state.cr4, state.efer, state.cs, state.ss]).toEqual([rip + 3n, KERNEL_RSP, 0x1706b0n, 0xd01n, 0x10, 0x18]);
    expect([msrs.get(0x277), real, vmm.machine.memory.read(state.idtr + 2n, 8)]).toEqual([pat, dr7, idt]);
  });

  test("puts SPEC_CTRL back where VMRUN switches it", () => {
    const vmm = new SvmVmm();
    vmm.machine.cpuid.set(`${0x8000_000a}`, [1, 16, 0, 0x10_0001]);
    for (const { msrs } of vmm.machine.processors) msrs.set(0x48, 1n);
    expect([vmm.prepare(), vmm.capture(0), vmm.capture(1)]).toEqual([OK, OK, OK]);
    expect(vmm.read(0, "SPEC_CTRL")).toBe(1n);
    vmm.write(0, "SPEC_CTRL", 5n);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0b11n })).toBe(OK);
    vmm.hypercall(0, HYPERCALL.RELEASE);
    expect(vmm.machine.processors[0]!.msrs.get(0x48)).toBe(5n);
  });

  test("lets a processor go that its kernel has offline: SVM is off there, and a native INIT parks it", () => {
    const vmm = captured();
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0b01n })).toBe(OK);
    const { msrs, reset } = vmm.machine.processors[1]!;
    expect([msrs.get(EFER), msrs.get(HSAVE), vmm.gone.get(1)?.how, reset]).toEqual([0xd01n, 0n, "halted", "waits"]);
  });
});
