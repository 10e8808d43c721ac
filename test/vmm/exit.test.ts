import { beforeEach, describe, expect, test } from "vitest";
import { Msrs } from "../../compiler/emit-js/hardware.ts";
import { backEnds } from "./back-ends.ts";
import { KERNEL_RIP, RAX, RBX, RCX, RDX, RSI, Reason, Vmm } from "./vmm.ts";

const GP = 0x80000b0dn;
const UD = 0x80000306n;
const CR4 = 0x17_26f0n;

const vmm = Vmm.captured();
const processor = vmm.machine.processors[0]!;
const initial = new Map(processor.vmcs!.fields);
let firstEvent = 0n;

function setRegisters(own: Vmm): void {
  for (let register = 0; register < 16; register++) own.setRegister(0, register, BigInt(register) * 0x1111_1111_1111_1111n);
}

beforeEach(() => {
  processor.vmcs!.fields = new Map(initial);
  processor.xcr0 = 7n;
  setRegisters(vmm);
  firstEvent = vmm.call.nextSequence!();
});

const newEvents = (): unknown[] => vmm.events(firstEvent).map(({ type, a, b }) => [type, a, b]);
const cpuidOf = (own: Vmm, leaf: number, subleaf = 0): bigint[] => {
  own.setRegister(0, RAX, 0xffff_ffff_0000_0000n | BigInt(leaf));
  own.setRegister(0, RCX, 0xffff_ffff_0000_0000n | BigInt(subleaf));
  own.exit(0, Reason.CPUID, { length: 2 });
  return [RAX, RBX, RCX, RDX].map((register) => own.register(0, register));
};
/** RIP has moved by the instruction's length, or not at all. */
const moved = (): bigint => vmm.read(0, "GUEST_RIP") - KERNEL_RIP;

describe.each(backEnds)("on %s", (_name, Kind) => {
  const vmm = Kind.captured();
  const moved = (): bigint => vmm.read(0, "GUEST_RIP") - KERNEL_RIP;
  beforeEach(() => {
    vmm.write(0, "GUEST_RIP", KERNEL_RIP);
    setRegisters(vmm);
  });

  describe("CPUID", () => {
    const cpuid = (leaf: number, subleaf?: number): bigint[] => cpuidOf(vmm, leaf, subleaf);

    test("answers as the machine does, in 32 bits, and goes on behind it", () => {
      vmm.machine.cpuid.set("4:2", [0x1c004143, 0x3c0003f, 0xfff, 0xffffffff]);
      expect(cpuid(4, 2)).toEqual([0x1c004143n, 0x3c0003fn, 0xfffn, 0xffffffffn]);
      expect(moved()).toBe(2n);
      expect(vmm.register(0, RSI)).toBe(BigInt(RSI) * 0x1111_1111_1111_1111n);
    });

    test("says who is there, and that it is the second leaf's to say more", () => {
      const [eax, ...name] = cpuid(0x40000000);
      expect(eax).toBe(0x40000001n);
      expect(Buffer.from(Uint32Array.from(name.map(Number)).buffer).toString("latin1")).toBe("Understudy  ");
      expect(cpuid(0x40000001)).toEqual([1n, 1n, 0n, 0n]);
      vmm.machine.cpuid.set("1073741826", [7, 8, 9, 10]); // 0x40000002
      expect(cpuid(0x40000002)).toEqual([7n, 8n, 9n, 10n]);
    });

    test("is counted", () => {
      const count = (): bigint => vmm.machine.memory.read(vmm.vcpu(0).exits + 8n * 10n, 8);
      const before = count();
      cpuid(0);
      cpuid(0);
      expect(count() - before).toBe(2n);
    });
  });

  test("INVD writes the caches back first", () => {
    const before = vmm.machine.cacheWritebacks;
    vmm.exit(0, Reason.INVD, { length: 2 });
    expect([vmm.machine.cacheWritebacks - before, moved(), vmm.injected[0]]).toEqual([1, 2n, null]);
  });

  describe("I/O of the instance that holds the devices", () => {
    const io = (port: number, size: number, direction: "in" | "out", string = false): void =>
      vmm.exit(0, Reason.IO, { qualification: BigInt((port << 16) | (size - 1) | (direction === "in" ? 8 : 0) | (string ? 0x10 : 0)), length: 1 });
    const BEFORE = 0x1122_3344_5566_7788n;

    test.each([[1, 0x1122_3344_5566_7700n | 0xa5n], [2, 0x1122_3344_5566_a5a5n], [4, 0xa5a5_a5a5n]])("reads the real device, %i bytes", (size, after) => {
      vmm.machine.ports.set(0x604, { in: () => 0xa5a5a5a5 });
      vmm.setRegister(0, RAX, BEFORE);
      io(0x604, size, "in");
      expect([vmm.register(0, RAX), moved()]).toEqual([after, 1n]);
    });

    test.each([[1, 0x88], [2, 0x7788], [4, 0x55667788]])("writes the real device, %i bytes", (size, value) => {
      vmm.machine.portWrites.length = 0;
      vmm.setRegister(0, RAX, BEFORE);
      io(0x604, size, "out");
      expect([vmm.machine.portWrites, moved()]).toEqual([[{ port: 0x604, size, value }], 1n]);
    });

    test("puts the node to sleep and resets it while nobody else runs", () => {
      vmm.machine.portWrites.length = 0;
      for (const [port, size, value] of [[0x604, 2, 0x3c01n], [0xcf9, 1, 6n], [0x64, 1, 0xfen]] as const) {
        vmm.setRegister(0, RAX, value);
        io(port, size, "out");
      }
      expect(vmm.machine.portWrites.map(({ port }) => port)).toEqual([0x604, 0xcf9, 0x64]);
      expect(vmm.instance(1).state).toBe(1);
    });

    test("by string instructions on a trapped port faults", () => {
      io(0x604, 1, "out", true);
      expect([vmm.injected[0], moved()]).toEqual([GP, 0n]);
    });
  });
});

describe("CPUID", () => {
  const cpuid = (leaf: number): bigint[] => cpuidOf(vmm, leaf);

  test("never has a hypervisor bit that the machine has not, and hides neither VMX nor anything else of leaf 1", () => {
    const [eax, , ecx, edx] = cpuid(1);
    expect([eax, ecx! & ~0x8000000n, edx]).toEqual([0x506e3n, 0x7ffafbffn & ~0x8000000n, 0xbfebfbffn]);
  });

  test.each([[CR4 | 0x40000n, true], [CR4 & ~0x40000n, false]])("OSXSAVE is the guest's, not the VMM's", (cr4, shown) => {
    vmm.write(0, "GUEST_CR4", cr4);
    for (const machine of [0x7ffafbff, 0x77fafbff]) {
      vmm.machine.cpuid.set("1", [0x506e3, 0, machine, 0xbfebfbff - 2 ** 32]);
      expect((cpuid(1)[2]! & 0x8000000n) !== 0n).toBe(shown);
    }
    vmm.machine.cpuid.set("1", [0x506e3, 0, 0x7ffafbff, 0xbfebfbff - 2 ** 32]);
  });

  test.each([[CR4 | 0x400000n, 0x10014n], [CR4, 0x10004n]])("OSPKE is the guest's; paging of five levels is offered as it is", (cr4, ecx) => {
    vmm.write(0, "GUEST_CR4", cr4);
    expect(cpuid(7)).toEqual([1n, 0x29c6fbfn, ecx, 0n]);
  });

  test("interrupts nothing: what is to be injected stays", () => {
    vmm.write(0, "VM_ENTRY_INTERRUPTION_INFO", 0x80000030n);
    vmm.write(0, "GUEST_RFLAGS", 0x202n);
    cpuid(0);
    expect(vmm.injected[0]).toBe(0x80000030n);
  });

});

describe("XSETBV", () => {
  const xsetbv = (value: bigint, index = 0n): void => {
    vmm.setRegister(0, RCX, 0xabcd_0000_0000_0000n | index);
    vmm.setRegister(0, RAX, 0xffff_ffff_0000_0000n | (value & 0xffffffffn));
    vmm.setRegister(0, RDX, 0xffff_ffff_0000_0000n | (value >> 32n));
    vmm.exit(0, Reason.XSETBV);
  };

  test.each([["x87 alone", 1n], ["SSE", 3n], ["AVX", 7n], ["AVX-512", 0xe7n], ["protection keys", 0x207n]])("of %s is done", (_what, value) => {
    xsetbv(value);
    expect([processor.xcr0, moved(), vmm.injected[0]]).toEqual([value, 3n, null]);
  });

  test.each([
    ["nothing", 0n, 0n], ["all but x87", 6n, 0n], ["AVX without SSE", 5n, 0n], ["what this processor has not", 0x1fn, 0n], ["a high bit", 1n << 62n | 7n, 0n], ["another register", 7n, 1n],
  ])("of %s faults, as on the bare machine", (_what, value, index) => {
    xsetbv(value, index);
    expect([processor.xcr0, moved(), vmm.injected[0]]).toEqual([7n, 0n, GP]);
  });

  test("in user mode faults", () => {
    vmm.write(0, "GUEST_SS_ACCESS_RIGHTS", 0xc0f3n);
    xsetbv(3n);
    expect([processor.xcr0, vmm.injected[0]]).toEqual([7n, GP]);
  });
});

describe("control registers", () => {
  const move = (register: number, from: number, value: bigint): void => {
    vmm.setRegister(0, from, value);
    vmm.exit(0, Reason.CR_ACCESS, { qualification: BigInt(register | (from << 8)) });
  };

  test.each([[RAX, CR4], [8 + 7, CR4 & ~0x80n], [RBX, CR4 & ~0x2000n]])("CR4 shows what was written (from register %i), while VMX stays on", (from, value) => {
    move(4, from, value);
    expect([vmm.read(0, "CR4_SHADOW"), vmm.read(0, "GUEST_CR4"), moved()]).toEqual([value, value | 0x2000n, 3n]);
    expect(processor.flushes.at(-1)).toBe("vpid 1");
  });

  test("CR4 may come from the stack pointer", () => {
    vmm.write(0, "GUEST_RSP", CR4 & ~0x2000n);
    vmm.exit(0, Reason.CR_ACCESS, { qualification: 0x404n });
    expect(vmm.read(0, "CR4_SHADOW")).toBe(CR4 & ~0x2000n);
  });

  test("CR0.NE shows what was written, while it stays set", () => {
    move(0, RDX, 0x8005_0013n);
    expect([vmm.read(0, "CR0_SHADOW"), vmm.read(0, "GUEST_CR0"), moved()]).toEqual([0x8005_0013n, 0x8005_0033n, 3n]);
    expect(vmm.read(0, "GUEST_EFER")).toBe(0xd01n);
  });

  test("CR0 that switches paging on and off switches long mode with it", () => {
    for (const [field, value] of [["GUEST_CS_ACCESS_RIGHTS", 0xc09bn], ["GUEST_RIP", 0x1000n]] as const) vmm.write(0, field, value);
    const state = (): bigint[] => [vmm.read(0, "GUEST_CR0"), vmm.read(0, "GUEST_EFER"), vmm.read(0, "VM_ENTRY_CONTROLS") & 0x200n];
    vmm.write(0, "GUEST_CR4", CR4 & ~0x20000n);
    move(0, RAX, 0x11n);
    expect(state()).toEqual([0x31n, 0x901n, 0n]);
    move(0, RAX, 0x8000_0011n);
    expect(state()).toEqual([0x8000_0031n, 0xd01n, 0x200n]);
  });

  test("any other access faults", () => {
    move(3, RAX, 0n);
    expect([vmm.injected[0], moved()]).toEqual([GP, 0n]);
  });
});

describe("an instruction that is emulated", () => {
  const skip = (): void => {
    vmm.setRegister(0, RAX, 0n);
    vmm.exit(0, Reason.CPUID, { length: 2 });
  };
  const state = (): bigint[] => [vmm.read(0, "GUEST_INTERRUPTIBILITY"), vmm.read(0, "GUEST_PENDING_DEBUG")];

  test.each([["STI", 1n], ["MOV SS", 2n]])("ends the blocking of interrupts by %s before it", (_what, blocking) => {
    vmm.write(0, "GUEST_INTERRUPTIBILITY", blocking | 8n);
    vmm.write(0, "GUEST_RFLAGS", 0x202n);
    skip();
    expect(state()).toEqual([8n, 0n]);
  });

  test("is followed by a single-step trap if the guest single-steps, and not if it steps over branches", () => {
    vmm.write(0, "GUEST_RFLAGS", 0x102n);
    vmm.write(0, "GUEST_PENDING_DEBUG", 1n);
    skip();
    expect(state()).toEqual([0n, 0x4001n]);
    vmm.write(0, "GUEST_PENDING_DEBUG", 0n);
    vmm.write(0, "GUEST_DEBUGCTL", 2n);
    skip();
    expect(state()).toEqual([0n, 0n]);
  });
});

describe("an event whose delivery an exit interrupted", () => {
  // An exit that leaves the guest where it was: a device beyond what is mapped.
  const fault = (vectoring: bigint, more: { vectoringCode?: bigint; length?: number } = {}): void =>
    vmm.exit(0, Reason.EPT_VIOLATION, { physical: 0x80_0000_0000n, vectoring, ...more });

  test.each([
    ["an external interrupt", 0x80000030n, {}, 0x80000030n],
    ["an NMI", 0x80000202n, {}, 0x80000202n],
    ["a page fault, with its code", 0x80000b0en, { vectoringCode: 0x11n }, 0x80000b0en],
    ["a software interrupt, with its length", 0x80000480n, { length: 2 }, 0x80000480n],
    ["an NMI, without the bit that means something else here", 0x80001202n, {}, 0x80000202n],
  ])("is delivered again: %s", (_what, vectoring, more, injected) => {
    vmm.write(0, "GUEST_RFLAGS", 0x202n);
    fault(vectoring, more);
    expect([vmm.injected[0], moved()]).toEqual([injected, 0n]);
    if ("vectoringCode" in more) expect(vmm.read(0, "VM_ENTRY_EXCEPTION_ERROR_CODE")).toBe(0x11n);
    if ("length" in more) expect(vmm.read(0, "VM_ENTRY_INSTRUCTION_LENGTH")).toBe(2n);
  });

  test("is not, if there was none", () => {
    fault(0x30n);
    expect(vmm.injected[0]).toBeNull();
  });
});

describe("MSRs", () => {
  const wrmsr = (index: number, value = 0n): void => {
    vmm.setRegister(0, RCX, 0xffff_ffff_0000_0000n | BigInt(index));
    vmm.setRegister(0, RAX, value & 0xffffffffn);
    vmm.setRegister(0, RDX, value >> 32n);
    vmm.exit(0, Reason.WRMSR, { length: 2 });
  };

  test.each([["where the local APIC is", 0x1b], ["whether VMX may be used", 0x3a], ["what does not exist", 0x2000], ["a synthetic one", 0x40000000]])("a write of %s is refused and recorded", (_what, index) => {
    const before = new Msrs(processor.msrs);
    wrmsr(index, 0x1234n);
    expect([vmm.injected[0], moved(), newEvents()]).toEqual([GP, 0n, [["MSR_VIOLATION", BigInt(index) | (1n << 32n), KERNEL_RIP]]]);
    expect(processor.msrs).toEqual(before);
  });

  test.each([["a microcode update", 0x79], ["the MTRR default", 0x2ff], ["the first variable MTRR", 0x200], ["the last fixed MTRR", 0x26f]])("a write of %s has no effect", (_what, index) => {
    const before = new Msrs(processor.msrs);
    wrmsr(index, 0x606060606060606n);
    expect([vmm.injected[0], moved(), newEvents(), processor.msrs]).toEqual([null, 2n, [], before]);
  });

  test("a read of one outside all ranges faults", () => {
    vmm.exit(0, Reason.RDMSR, { length: 2 });
    expect([vmm.injected[0], moved()]).toEqual([GP, 0n]);
  });
});

describe("instructions that a captured kernel has no use for", () => {
  test("VMXON faults as where firmware has locked VMX off", () => {
    vmm.exit(0, Reason.VMXON);
    expect([vmm.injected[0], moved()]).toEqual([GP, 0n]);
  });

  test.each([["GETSEC", 11], ["VMCLEAR", 19], ["VMLAUNCH", 20], ["VMPTRLD", 21], ["VMPTRST", 22], ["VMREAD", 23], ["VMRESUME", 24], ["VMWRITE", 25], ["VMXOFF", 26], ["INVEPT", 50], ["INVVPID", 53]])("%s is undefined", (_what, reason) => {
    vmm.exit(0, reason);
    expect([vmm.injected[0], moved()]).toEqual([UD, 0n]);
  });
});

describe("an NMI that arrives in the VMM", () => {
  const arrive = (): void => { vmm.cpu(0).nmiCount = 1; };
  const exit = (): void => {
    vmm.setRegister(0, RCX, 0x79n);
    vmm.exit(0, Reason.WRMSR, { length: 2 });
  };

  test("is the guest's with the next entry, once", () => {
    arrive();
    exit();
    expect([vmm.injected[0], vmm.cpu(0).nmiCount]).toEqual([0x80000202n, 0]);
    exit();
    expect(vmm.injected[0]).toBeNull();
  });

  test("waits for another event, and follows one instruction later", () => {
    vmm.setRegister(0, RCX, 0x1bn);
    arrive();
    vmm.exit(0, Reason.WRMSR);
    expect([vmm.injected[0], vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 0x8000000n]).toEqual([GP, 0x8000000n]);
    vmm.exit(0, Reason.MONITOR_TRAP_FLAG, { length: 0 });
    expect([vmm.injected[0], vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 0x8000000n, vmm.vcpu(0).nmiPending]).toEqual([0x80000202n, 0n, 0]);
  });

  test("follows the trap of an instruction that was executed step by step, which an entry with an NMI would drop", () => {
    const flags = vmm.read(0, "GUEST_RFLAGS");
    vmm.write(0, "GUEST_RFLAGS", flags | 0x100n);
    arrive();
    vmm.exit(0, Reason.CPUID, { length: 2 });
    const [DB, BS] = [0x80000301n, 0x4000n];
    expect([vmm.injected[0], vmm.machine.processors[0]!.dr6 & BS, vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 0x8000000n]).toEqual([DB, BS, 0x8000000n]);
    // Its handler runs without the flag.
    vmm.write(0, "GUEST_RFLAGS", flags);
    vmm.exit(0, Reason.MONITOR_TRAP_FLAG, { length: 0 });
    expect([vmm.injected[0], vmm.vcpu(0).nmiPending]).toEqual([0x80000202n, 0]);
  });
});

describe("INIT and SIPI of the kernel's own", () => {
  const start = (vector = 0x9a): Vmm => {
    const own = Vmm.captured();
    own.exit(1, Reason.INIT, { length: 0 });
    own.exit(1, Reason.SIPI, { qualification: BigInt(vector), length: 0 });
    return own;
  };
  const segment = (own: Vmm, part: string, number: number): bigint => own.machine.processors[1]!.field(own.fields[`GUEST_ES_${part}`]! + 2 * number);

  test("make a processor wait, and start it in real mode with everything as after INIT", () => {
    const own = start();
    expect([own.cpu(1).state, own.read(1, "GUEST_ACTIVITY_STATE")]).toEqual([1, 0n]);
    expect([own.read(1, "GUEST_CS_SELECTOR"), own.read(1, "GUEST_CS_BASE"), own.read(1, "GUEST_RIP")]).toEqual([0x9a00n, 0x9a000n, 0n]);
    const expected: Record<string, bigint> = { GUEST_RFLAGS: 2n, CR0_SHADOW: 0x6000_0030n, GUEST_CR0: 0x30n, GUEST_CR3: 0n, CR4_SHADOW: 0n, GUEST_CR4: 0x2000n, GUEST_EFER: 0n, GUEST_RSP: 0n, GUEST_DR7: 0x400n, GUEST_GDTR_BASE: 0n, GUEST_GDTR_LIMIT: 0xffffn, GUEST_IDTR_BASE: 0n, GUEST_IDTR_LIMIT: 0xffffn };
    expect(Object.fromEntries(Object.keys(expected).map((field) => [field, own.read(1, field)]))).toEqual(expected);
    for (const number of [0, 2, 3, 4, 5]) expect(["SELECTOR", "BASE", "LIMIT", "ACCESS_RIGHTS"].map((part) => segment(own, part, number))).toEqual([0n, 0n, 0xffffn, 0x93n]);
    expect(Array.from({ length: 16 }, (_, i) => own.register(1, i))).toEqual(Array.from({ length: 16 }, (_, i) => (i === RDX ? 0x600n : 0n)));
    expect(own.events().slice(2).map(({ type, cpu, a }) => [type, cpu, a])).toEqual([["CPU_WAITING", 1, 0n], ["CPU_STARTED", 1, 0x9an]]);
  });

  test("do not reach it as an event that was due before", () => {
    const own = Vmm.captured();
    own.write(1, "GUEST_INTERRUPTIBILITY", 1n);
    own.write(1, "GUEST_RFLAGS", 0x202n);
    own.exit(1, Reason.INIT, { vectoring: 0x80000030n });
    expect([own.injected[1], own.read(1, "GUEST_ACTIVITY_STATE"), own.read(1, "GUEST_INTERRUPTIBILITY")]).toEqual([null, 3n, 0n]);
  });

  test("in the wrong order change nothing: a SIPI while it runs, one with vector 0 while it waits", () => {
    const own = Vmm.captured();
    const rip = own.read(1, "GUEST_RIP");
    own.exit(1, Reason.SIPI, { qualification: 0x9an });
    expect([own.read(1, "GUEST_RIP"), own.cpu(1).state]).toEqual([rip, 1]);
    own.exit(1, Reason.INIT);
    own.exit(1, Reason.SIPI, { qualification: 0n });
    expect([own.read(1, "GUEST_ACTIVITY_STATE"), own.cpu(1).state]).toEqual([3n, 2]);
  });

  test("an INIT that was blocked while it waited, and comes after the SIPI, is stale", () => {
    const own = start();
    own.exit(1, Reason.INIT);
    expect([own.cpu(1).state, own.read(1, "GUEST_ACTIVITY_STATE")]).toEqual([1, 0n]);
    own.write(1, "GUEST_RIP", 0x10n);
    own.exit(1, Reason.INIT);
    expect([own.cpu(1).state, own.read(1, "GUEST_ACTIVITY_STATE")]).toEqual([2, 3n]);
  });

  test("start a processor as often as it is asked for", () => {
    const own = start();
    own.write(1, "GUEST_RIP", 0xfff0n);
    own.exit(1, Reason.INIT);
    own.exit(1, Reason.SIPI, { qualification: 0x12n });
    expect([own.read(1, "GUEST_CS_BASE"), own.read(1, "GUEST_RIP"), own.cpu(1).state]).toEqual([0x12000n, 0n, 1]);
  });
});

describe("what cannot be handled", () => {
  test("a VM entry that fails is a panic that says why", () => {
    const own = Vmm.captured();
    expect(() => own.exit(0, 33, { entryFailure: true, qualification: 0x4n })).toThrow(/understudy: panic: VM entry failed, reason and detail: 0x0*80000021 0x0*4 /);
  });

  test("every exit is counted by its reason", () => {
    const own = Vmm.captured();
    own.exit(0, Reason.INVD);
    own.exit(0, Reason.INVD);
    own.exit(0, Reason.RDMSR);
    const counts = Array.from({ length: 80 }, (_, reason) => own.machine.memory.read(own.vcpu(0).exits + BigInt(8 * reason), 8));
    expect(counts.flatMap((count, reason) => (count === 0n ? [] : [[reason, count]]))).toEqual([[Reason.INVD, 2n], [Reason.RDMSR, 1n]]);
  });
});
