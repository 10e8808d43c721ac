import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Msrs } from "../../compiler/emit-js/hardware.ts";
import { GIB, MEMORY_MAP, MIB, RAM, bytes, taskDescriptor } from "./firmware.ts";
import { type Processor } from "./machine.ts";
import { SvmVmm } from "./svm.ts";
import { AGAIN, ANNEX, ANNEX_SIZE, KERNEL_CR3, KERNEL_RIP, KERNEL_RSP, OK, REGION, REGION_SIZE, TEXT_END, Reason, Vmm, type VmmOptions } from "./vmm.ts";

const RELEASE_BEGIN = 0x55530002;
const RELEASE = 0x55530003;
const CR4_VMXE = 0x2000n;
const CR4_LA57 = 0x1000n;
const GDT = 0x200_0000n;

/** A machine that is captured; tests only look at it. */
const shared = Vmm.captured();

function change(vmm: Vmm, what: (processor: Processor) => void): Vmm {
  vmm.machine.processors.forEach(what);
  return vmm;
}

/** A captured kernel on 4 or 5 levels of page tables. */
function onLevels(Kind: typeof Vmm | typeof SvmVmm, levels: number): Vmm {
  const vmm = new Kind();
  if (levels === 5) change(vmm, (processor) => { processor.cr4 |= CR4_LA57; });
  expect([vmm.prepare(), vmm.capture(0), vmm.capture(1)]).toEqual([OK, OK, OK]);
  return vmm;
}

describe("preparation", () => {
  test("goes in steps, and answers AGAIN until the last", () => {
    const vmm = new Vmm();
    expect(vmm.call.enter!(0x80000000, 0n, 0n, 0n)).toBe(AGAIN);
    expect(vmm.prepare()).toBe(OK);
    expect([vmm.instance(1).state, vmm.instance(1).holdsPlatform, vmm.instance(2).state]).toEqual([1, 1, 0]);
  });

  const without = (msr: number, bits: bigint) => (processor: Processor): void => {
    processor.msrs.set(msr, processor.msrs.get(msr)! & ~bits);
  };
  const allowedOne = (bit: number): bigint => 1n << BigInt(32 + bit);
  test.each([
    ["VMX enabled by the firmware", without(0x3a, 4n)],
    ["the firmware's setting locked", without(0x3a, 1n)],
    ["true VMX controls", without(0x480, 1n << 55n)],
    ["I/O bitmaps", without(0x48e, allowedOne(25))],
    ["MSR bitmaps", without(0x48e, allowedOne(28))],
    ["secondary controls", without(0x48e, allowedOne(31))],
    ["the monitor trap flag", without(0x48e, allowedOne(27))],
    ["the preemption timer", without(0x48d, allowedOne(6))],
    ["EPT", without(0x48b, allowedOne(1))],
    ["VPID", without(0x48b, allowedOne(5))],
    ["unrestricted guests", without(0x48b, allowedOne(7))],
    ["64-bit hosts", without(0x48f, allowedOne(9))],
    ["saving EFER", without(0x48f, allowedOne(20))],
    ["loading EFER", without(0x490, allowedOne(15))],
    ["walks of four levels", without(0x48c, 1n << 6n)],
    ["write-back tables", without(0x48c, 1n << 14n)],
    ["2 MiB pages", without(0x48c, 1n << 16n)],
    ["1 GiB pages", without(0x48c, 1n << 17n)],
    ["INVEPT of one context", without(0x48c, 1n << 25n)],
    ["INVVPID of one context", without(0x48c, 1n << 41n)],
  ])("refuses a processor without %s", (_what, take) => {
    expect(change(new Vmm(), take).prepare()).toBe(shared.result.CAPABILITY);
  });

  test("refuses a processor without VMX at all, before it reads an MSR of it", () => {
    const vmm = change(new Vmm(), ({ msrs }) => { for (const msr of [...msrs.keys()]) if (msr === 0x3a || (msr >= 0x480 && msr < 0x4a0)) msrs.delete(msr); });
    vmm.machine.cpuid.set("1", [0x506e3, 0, 0x7ffafbff & ~0x20, 0]);
    expect(vmm.prepare()).toBe(vmm.result.CAPABILITY);
  });

  test.each([
    ["no ACPI tables", { tables: false }, "ACPI"],
    ["the region in no RAM", { map: MEMORY_MAP.filter(({ base }) => base !== MIB) }, "MEMORY"],
    ["more memory ranges than it knows", { map: Array.from({ length: 65 }, (_, i) => ({ base: BigInt(i) * GIB, size: MIB, type: RAM })) }, "CAPABILITY"],
  ] as [string, VmmOptions, string][])("refuses a machine with %s", (_what, options, code) => {
    const vmm = new Vmm(options);
    expect(vmm.prepare()).toBe(vmm.result[code]);
    expect(vmm.capture(0)).toBe(vmm.result.INSTANCE);
  });

  test.each([
    ["is not there", { annexBase: 0n, annexSize: 0n }],
    ["is too small", { annexSize: MIB }],
    ["lies where no RAM is", { annexBase: 0xd000_0000n }],
    ["runs out of RAM", { annexBase: 0x7fe0_0000n }],
    ["lies in the region", { annexBase: REGION }],
  ])("refuses an annex that %s", (_what, told) => {
    const vmm = new Vmm();
    Object.assign(vmm.view("BootInfo", REGION + 256n), told);
    expect(vmm.prepare()).toBe(vmm.result.MEMORY);
  });

  test("uses XSAVES, RDTSCP, INVPCID and UMWAIT where they are, and does without", () => {
    const secondary = (vmm: Vmm): bigint => vmm.read(0, "SECONDARY_CONTROLS");
    expect(secondary(Vmm.captured()) & 0x101008n).toBe(0x101008n);
    const plain = change(new Vmm(), without(0x48b, allowedOne(20) | allowedOne(3) | allowedOne(12)));
    expect([plain.prepare(), plain.capture(0)]).toEqual([OK, OK]);
    expect(secondary(plain) & 0x101008n).toBe(0n);
  });
});

describe("the VMM's own state", () => {
  /** Whether the VMM may write or execute a page, by its page tables. */
  const permissions = (at: bigint): { host: bigint; write: boolean; execute: boolean } | null => {
    let table = shared.read(0, "HOST_CR3");
    let write = true;
    let execute = true;
    for (const shift of [39n, 30n, 21n, 12n]) {
      const entry = shared.machine.memory.read(table + ((at >> shift) & 511n) * 8n, 8);
      if ((entry & 1n) === 0n) return null;
      write &&= (entry & 2n) !== 0n;
      execute &&= entry >> 63n === 0n;
      if (shift === 12n || (entry & 0x80n) !== 0n) return { host: (entry & 0xfffffffff000n & ~((1n << shift) - 1n)) | (at & ((1n << shift) - 1n)), write, execute };
      table = entry & 0xfffffffff000n;
    }
    return null;
  };

  test("maps all memory at its own address; what is executable is the code alone, and that is not writable", () => {
    const pages = [...Array.from({ length: 2048 }, (_, i) => REGION - 4n * MIB + BigInt(i) * 4096n), ANNEX, ANNEX + ANNEX_SIZE - 4096n, 0n, MIB, REGION - GIB / 2n, 4n * GIB, 512n * GIB - 4096n];
    for (const at of pages) {
      const text = at >= REGION + 4096n && at < REGION + TEXT_END;
      expect({ at, ...permissions(at)! }).toEqual({ at, host: at, write: !text, execute: text });
    }
    expect(permissions(512n * GIB)).toBeNull();
  });

  test("has a gate for every vector, NMI and machine check on stacks of their own", () => {
    const idt = shared.read(0, "HOST_IDTR_BASE");
    const gates = Array.from({ length: 256 }, (_, i) => [shared.machine.memory.read(idt + BigInt(16 * i), 8), shared.machine.memory.read(idt + BigInt(16 * i) + 8n, 8)] as const);
    const decoded = gates.map(([low, high]) => ({
      target: (low & 0xffffn) | ((low >> 32n) & 0xffff0000n) | (high << 32n), selector: (low >> 16n) & 0xffffn, ist: (low >> 32n) & 7n, type: (low >> 40n) & 0xffn,
    }));
    expect(decoded.every(({ selector, type, target }) => selector === 0x10n && type === 0x8en && target > REGION && target < REGION + TEXT_END)).toBe(true);
    expect(decoded.flatMap(({ ist }, vector) => (ist === 0n ? [] : [[vector, ist]]))).toEqual([[2, 1n], [18, 2n]]);
    const targets = decoded.slice(0, 32).map(({ target }) => target);
    expect(new Set(targets).size).toBe(32);
    expect(new Set(decoded.slice(32).map(({ target }) => target)).size).toBe(1);
  });

  test("is each processor's own: GDT, TSS, stack, interrupt stacks", () => {
    const { memory } = shared.machine;
    const own = [0, 1].map((cpu) => {
      const tss = shared.read(cpu, "HOST_TR_BASE");
      const gdt = shared.read(cpu, "HOST_GDTR_BASE");
      const descriptor = memory.read(gdt + 0x20n, 8);
      const base = ((descriptor >> 16n) & 0xffffffn) | ((descriptor >> 32n) & 0xff000000n) | (memory.read(gdt + 0x28n, 8) << 32n);
      expect([base, (descriptor >> 40n) & 0xffn, descriptor & 0xffffn]).toEqual([tss, 0x89n, 0x67n]);
      const stacks = [memory.read(tss + 36n, 8), memory.read(tss + 44n, 8)];
      for (const top of stacks) expect([top % 16n, memory.read(top, 8)]).toEqual([0n, shared.loaded.addressOf("cpus") + BigInt(cpu * shared.loaded.layout("Cpu").size)]);
      expect(shared.vcpu(cpu).stackTop % 16n).toBe(0n);
      expect(shared.read(cpu, "HOST_RSP")).toBe(shared.cpu(cpu).vcpu + 128n);
      return [tss, gdt, shared.vcpu(cpu).stackTop, ...stacks];
    });
    expect(new Set(own.flat()).size).toBe(10);
  });

  test("is not in its instance's memory map, all of the machine otherwise is", () => {
    const mapped = (at: bigint): boolean => {
      let table = shared.read(0, "EPT_POINTER") & ~0xfffn;
      for (const shift of [39n, 30n, 21n, 12n]) {
        const entry = shared.machine.memory.read(table + ((at >> shift) & 511n) * 8n, 8);
        if ((entry & 7n) === 0n) return false;
        if ((entry & 0x80n) !== 0n) return true;
        table = entry & 0xfffffffff000n;
      }
      return true;
    };
    for (const [base, size] of [[REGION, REGION_SIZE], [ANNEX, ANNEX_SIZE]] as const) {
      for (let at = base; at < base + size; at += 4096n) expect(mapped(at)).toBe(false);
      expect([base - 1n, base + size].map(mapped)).toEqual([true, true]);
    }
    expect([0n, 0xfee00000n, 4n * GIB, 512n * GIB - 1n].map(mapped)).toEqual(Array(4).fill(true));
    expect(shared.loaded.addressOf("request") + 4096n).toBeLessThan(REGION + REGION_SIZE);
  });

  test("lets the node's sleep and reset ports exit, and PCI configuration data, and none that a kernel uses otherwise", () => {
    const bitmaps = [shared.read(0, "IO_BITMAP_A"), shared.read(0, "IO_BITMAP_B")] as const;
    const exits = (port: number): boolean => ((shared.machine.memory.read(bitmaps[port >> 15]! + BigInt((port & 0x7fff) >> 3), 1) >> BigInt(port & 7)) & 1n) === 1n;
    expect([0x64, 0x604, 0x605, 0xcf9, 0xcfc, 0xcff].filter((port) => !exits(port))).toEqual([]);
    expect([0x20, 0x21, 0x40, 0x61, 0x70, 0x71, 0x80, 0x3f8, 0x3fd, 0x600, 0x603, 0x606, 0x608, 0xb2, 0xcf8, 0xcfa, 0xd00, 0x8000, 0xc000, 0xffff].filter(exits)).toEqual([]);
  });
});

describe("a captured processor", () => {
  const captured = (set: (vmm: Vmm, processor: Processor) => void = () => {}): Vmm => {
    const vmm = new Vmm();
    set(vmm, vmm.machine.processors[0]!);
    expect([vmm.prepare(), vmm.capture(0)]).toEqual([OK, OK]);
    return vmm;
  };
  const segment = (vmm: Vmm, name: string): bigint[] => ["SELECTOR", "ACCESS_RIGHTS", "LIMIT", "BASE"].map((part) => vmm.machine.processors[0]!.field(fieldOf(vmm, name, part)));

  test("goes on as a guest with the kernel's own state", () => {
    const processor = shared.machine.processors[0]!;
    const expected: Record<string, bigint> = {
      GUEST_RIP: KERNEL_RIP, GUEST_RSP: KERNEL_RSP, GUEST_RFLAGS: 2n, GUEST_CR0: processor.cr0, CR0_SHADOW: processor.cr0, GUEST_CR3: KERNEL_CR3,
      GUEST_CR4: 0x17_26f0n, CR4_SHADOW: 0x17_06f0n, GUEST_EFER: 0xd01n, GUEST_DR7: 0x400n, GUEST_DEBUGCTL: 0n,
      GUEST_SYSENTER_CS: 0x10n, GUEST_SYSENTER_ESP: 0xfffffe00_00003000n, GUEST_SYSENTER_EIP: 0xffffffff_81801530n,
      GUEST_GDTR_BASE: GDT, GUEST_GDTR_LIMIT: 0x7fn, GUEST_IDTR_BASE: 0xfffffe00_00000000n, GUEST_IDTR_LIMIT: 0xfffn,
      GUEST_ACTIVITY_STATE: 0n, GUEST_INTERRUPTIBILITY: 0n, GUEST_PENDING_DEBUG: 0n, VM_ENTRY_INTERRUPTION_INFO: 0n, VMCS_LINK_POINTER: 2n ** 64n - 1n,
    };
    expect(Object.fromEntries(Object.keys(expected).map((field) => [field, shared.read(0, field)]))).toEqual(expected);
  });

  test.each([Vmm, SvmVmm])("may be on 5 levels of page tables, the VMM is on 4 (%o)", (Kind) => {
    const vmm = onLevels(Kind, 5);
    expect(vmm.read(0, "GUEST_CR4") & CR4_LA57).toBe(CR4_LA57);
    if (Kind === Vmm) expect([vmm.read(0, "HOST_CR4") & CR4_LA57, vmm.read(0, "HOST_CR3")]).toEqual([0n, vmm.call.hostCr3!()]);
  });

  test("keeps its segments", () => {
    expect(segment(shared, "CS")).toEqual([0x10n, 0xa09bn, 0xffffffffn, 0n]);
    expect(segment(shared, "SS")).toEqual([0x18n, 0xc093n, 0xffffffffn, 0n]);
    for (const name of ["ES", "DS"]) expect(segment(shared, name)).toEqual([0n, 0x10000n, 0n, 0n]);
    expect(segment(shared, "FS")).toEqual([0n, 0x10000n, 0n, 0x7f12_3456_7000n]);
    expect(segment(shared, "GS")).toEqual([0n, 0x10000n, 0n, 0xffff8880_3fc00000n]);
    expect(segment(shared, "LDTR")).toEqual([0n, 0x10000n, 0n, 0n]);
    expect(segment(shared, "TR")).toEqual([0x40n, 0x8bn, 0x4087n, 0xfffffe00_00001000n]);
  });

  test("keeps segments of a local descriptor table, which no look into the GDT would find", () => {
    const LDT = 0x201_0000n;
    const vmm = captured((one, processor) => {
      one.machine.memory.writeBytes(GDT + 0x50n, bytes(...taskDescriptor(LDT, 0xfn, 0x82n).map((word): [bigint, number] => [word, 8])));
      one.machine.memory.write(LDT + 8n, 8, 0x00cff2000000ffffn); // not accessed yet
      Object.assign(processor.selectors, { ldtr: 0x50, fs: 0x0f, es: 0x2b });
    });
    expect(segment(vmm, "LDTR")).toEqual([0x50n, 0x82n, 0xfn, LDT]);
    expect(segment(vmm, "FS")).toEqual([0x0fn, 0xc0f3n, 0xffffffffn, 0x7f12_3456_7000n]);
    expect(segment(vmm, "ES")).toEqual([0x2bn, 0xc0f3n, 0xffffffffn, 0n]);
  });

  test("does not use a segment whose descriptor is gone", () => {
    const vmm = captured((_one, processor) => { processor.selectors.es = 0x0078 | 3; });
    expect(segment(vmm, "ES")).toEqual([0x7bn, 0x10000n, 0n, 0n]);
  });

  test("has its TSS where all four parts of the descriptor's base say", () => {
    const base = 0xfedcba98_76543210n & 0x7fff_ffff_ffffn;
    const vmm = captured((one) => one.machine.memory.writeBytes(GDT + 0x40n, bytes(...taskDescriptor(base, 0x2067n).map((word): [bigint, number] => [word, 8]))));
    expect(segment(vmm, "TR")).toEqual([0x40n, 0x8bn, 0x2067n, base]);
  });

  test("does not see that VMX is on, and forgets translations from before", () => {
    expect(shared.read(0, "CR4_SHADOW") & CR4_VMXE).toBe(0n);
    expect([shared.read(0, "CR4_MASK"), shared.read(0, "CR0_MASK")]).toEqual([CR4_VMXE, 0x20n]);
    expect(shared.machine.processors[0]!.flushes).toEqual([`ept ${shared.read(0, "EPT_POINTER").toString(16)}`, "vpid 1"]);
    expect(shared.vcpu(0).launched).toBe(0);
  });

  test("is shown as its instance's", () => {
    expect(shared.events().map(({ type, instance, cpu, a }) => [type, instance, cpu, a])).toEqual([["CAPTURED", 1, 0, 0n], ["CAPTURED", 1, 1, 0n]]);
    expect(shared.call.cpusOf!(1)).toBe(0b11n);
  });
});

/** The field of a segment register, by its name or by its distance from ES (SDM Vol. 3D, appendix B). */
function fieldOf(vmm: Vmm, name: string, part: string): number {
  return vmm.fields[`GUEST_ES_${part}`]! + 2 * ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"].indexOf(name);
}

describe("a capture that fails leaves the processor bare", () => {
  const bare = (vmm: Vmm, cr4: bigint): void => {
    const processor = vmm.machine.processors[0]!;
    expect([processor.cr4, processor.vmxRegion, processor.vmcs, vmm.cpu(0).state, vmm.cpu(0).vcpu]).toEqual([cr4, null, null, 0, 0n]);
    expect([vmm.call.cpuOwner!(0), vmm.events()]).toEqual([0, []]);
  };

  test.each(["vmxon", "vmclear", "vmptrld"])("when %s fails; the next attempt succeeds", (instruction) => {
    const vmm = new Vmm();
    vmm.prepare();
    const { cr4, failing } = vmm.machine.processors[0]!;
    failing.add(instruction);
    expect(vmm.capture(0)).toBe(vmm.result.PROCESSOR);
    bare(vmm, cr4);
    failing.clear();
    expect(vmm.capture(0)).toBe(OK);
  });

  test("when somebody else uses VMX", () => {
    const vmm = new Vmm();
    const cr4 = 0x17_26f0n;
    vmm.prepare();
    vmm.machine.processors[0]!.cr4 = cr4;
    expect(vmm.capture(0)).toBe(vmm.result.PROCESSOR);
    bare(vmm, cr4);
  });

  test("when the first VM entry fails", () => {
    const vmm = new Vmm();
    vmm.prepare();
    const { cr4 } = vmm.machine.processors[0]!;
    expect(vmm.call.enter!(0, KERNEL_RIP, KERNEL_RSP, KERNEL_CR3)).toBe(OK);
    expect(vmm.call.enterFailed!(0)).toBe(vmm.result.PROCESSOR);
    expect([vmm.machine.processors[0]!.cr4, vmm.machine.processors[0]!.vmxRegion, vmm.cpu(0).state, vmm.call.cpuOwner!(0)]).toEqual([cr4, null, 0, 0]);
  });

  test("when it is not a processor's turn: before preparation, twice, and beyond the last one", () => {
    const vmm = new Vmm();
    expect(vmm.capture(0)).toBe(vmm.result.INSTANCE);
    vmm.prepare();
    expect([vmm.capture(0), vmm.call.enter!(0, 0n, 0n, 0n), vmm.call.enter!(2, 0n, 0n, 0n), vmm.call.enter!(32, 0n, 0n, 0n)]).toEqual([OK, vmm.result.INSTANCE, vmm.result.CPU, vmm.result.CPU]);
    expect(vmm.read(0, "GUEST_RIP")).toBe(KERNEL_RIP);
  });
});

describe("a release", () => {
  interface Released { state: Record<string, any>; rax: bigint; rdx: bigint; processor: Processor }
  const release = (vmm: Vmm, cpu: number): Released => {
    // On VT-x a kernel on other page tables than the VMM asks twice.
    if (vmm.hypercall(cpu, RELEASE) !== -1) vmm.exit(cpu, Reason.VMCALL);
    const gone = vmm.gone.get(cpu)!;
    expect(gone.how).toBe("released");
    const vcpu = vmm.vcpu(cpu, 1).registers;
    const { memory, processors } = vmm.machine;
    return { state: vmm.view("ReleaseState", gone.state), rax: memory.read(vcpu, 8), rdx: memory.read(vcpu + 16n, 8), processor: processors[cpu]! };
  };
  const tableRegister = (vmm: Vmm, at: bigint): { limit: number; base: bigint } => ({ limit: Number(vmm.machine.memory.read(at, 2)), base: vmm.machine.memory.read(at + 2n, 8) });

  test("is refused until somebody has announced it", () => {
    const vmm = Vmm.captured();
    expect(vmm.hypercall(0, RELEASE)).toBe(vmm.result.UNKNOWN);
    expect(vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b10n })).toBe(vmm.result.CPU);
    expect(vmm.hypercall(1, RELEASE)).toBe(vmm.result.UNKNOWN);
    expect(vmm.gone.size).toBe(0);
  });

  test("leaves VMX, and goes on after the call with RAX = 0 and no NMI to repeat", () => {
    const vmm = Vmm.captured();
    expect(vmm.hypercall(1, RELEASE_BEGIN, { rdx: 0b11n })).toBe(OK);
    for (const cpu of [0, 1]) {
      const rip = vmm.read(cpu, "GUEST_RIP");
      const { state, rax, rdx, processor } = release(vmm, cpu);
      expect([state.rip, state.rsp, rax, rdx]).toEqual([rip + 3n, KERNEL_RSP, 0n, 0n]);
      expect([processor.vmxRegion, state.cr4 & CR4_VMXE, vmm.cpu(cpu).state, vmm.cpu(cpu).vcpu, vmm.call.cpuOwner!(cpu)]).toEqual([null, 0n, 0, 0n, 0]);
    }
    expect(vmm.events().slice(2).map(({ type, cpu, a }) => [type, cpu, a])).toEqual([["RELEASED", 0, 0n], ["RELEASED", 1, 0n]]);
    expect([...vmm.machine.vmcss.values()].every(({ launched, on }) => !launched && on === null)).toBe(true);
  });

  test("passes on an NMI that the kernel has not had yet", () => {
    const vmm = Vmm.captured();
    vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b11n });
    vmm.write(0, "VM_ENTRY_INTERRUPTION_INFO", 0x80000202n);
    vmm.vcpu(0).nmiPending = 1;
    expect(release(vmm, 0).rdx).toBe(2n);
  });

  test("loads the task register from a table of one descriptor, the real one's but not busy", () => {
    const vmm = Vmm.captured();
    vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b11n });
    const { state } = release(vmm, 0);
    const { limit, base } = tableRegister(vmm, state.taskGdtr);
    const offset = BigInt(state.tr);
    expect([state.tr, limit >= 0x4f]).toEqual([0x40, true]);
    expect([vmm.machine.memory.read(base + offset, 8), vmm.machine.memory.read(base + offset + 8n, 8)]).toEqual(taskDescriptor(0xfffffe00_00001000n, 0x4087n, 0x89n));
  });

  describe.each([[4, Vmm], [5, Vmm], [4, SvmVmm], [5, SvmVmm]] as const)("of a kernel on %i levels of page tables, by %o", (levels, Kind) => {
    test("ends on tables of as many, with the VMM's lower half and the kernel's upper half", () => {
      const vmm = onLevels(Kind, levels);
      const { memory } = vmm.machine;
      for (let i = 0n; i < 512n; i++) memory.write(KERNEL_CR3 + 8n * i, 8, 0x7000n + i * 0x1000n + 0x67n);
      vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b11n });
      const { state } = release(vmm, 0);
      const table = state.transitionCr3 as bigint;
      const own: bigint = vmm.call.hostCr3!();
      expect([table & 0x1fffn, (state.cr4 & CR4_LA57) !== 0n]).toEqual([0n, levels === 5]);
      expect(memory.read(table, 8)).toBe(levels === 5 ? own | 3n : memory.read(own, 8));
      for (let i = 256n; i < 512n; i++) expect(memory.read(table + 8n * i, 8)).toBe(memory.read(KERNEL_CR3 + 8n * i, 8));
    });
  });

  test("of a kernel on 5 levels of page tables takes one exit more, which leads onto them", () => {
    const vmm = onLevels(Vmm, 5);
    vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b11n });
    const rip = vmm.read(0, "GUEST_RIP");
    vmm.hypercall(0, RELEASE);
    expect([vmm.gone.size, vmm.read(0, "GUEST_RIP"), vmm.read(0, "HOST_CR4") & CR4_LA57, vmm.register(0, 0)]).toEqual([0, rip, CR4_LA57, BigInt(RELEASE)]);
    const { state } = release(vmm, 0);
    expect([state.rip, state.cr4 & CR4_LA57, state.transitionCr3]).toEqual([rip + 3n, CR4_LA57, [...vmm.machine.vmcss.values()][0]!.fields.get(0x6c02)]);
  });

  test("of a kernel that has changed since its capture is a release of what it is now", () => {
    const vmm = Vmm.captured();
    vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b11n });
    const changes: [string, bigint][] = [["GUEST_GDTR_BASE", 0xfffffe00_00009000n], ["GUEST_IDTR_LIMIT", 0x7ffn], ["GUEST_GS_BASE", 0xffff8880_12340000n], ["GUEST_CR4", 0x37_26f0n], ["GUEST_SYSENTER_EIP", 0xffffffff_81000000n], ["GUEST_DR7", 0x401n], ["GUEST_EFER", 0xd01n]];
    for (const [field, value] of changes) vmm.write(0, field, value);
    const { state, processor } = release(vmm, 0);
    expect([tableRegister(vmm, state.gdtr).base, tableRegister(vmm, state.idtr).limit, state.gsBase, state.cr4]).toEqual([0xfffffe00_00009000n, 0x7ff, 0xffff8880_12340000n, 0x37_06f0n]);
    expect([processor.msrs.get(0x176), processor.dr7]).toEqual([0xffffffff_81000000n, 0x401n]);
  });

  test("gives back what was captured, whatever it was (property)", () => {
    const address = fc.bigInt(0n, 2n ** 47n - 1n).map((low) => BigInt.asUintN(64, low | (low & 1n ? 0xffff8000_00000000n : 0n)));
    const live = fc.record({
      cr4: fc.constantFrom(0x6f0n, 0x17_06f0n, 0x37_06f0n, 0x6b0n), fsBase: address, gsBase: address, sysenter: address, idt: address, dr7: fc.constantFrom(0x400n, 0x455n), debugctl: fc.constantFrom(0n, 1n, 0x4001n),
      ss: fc.constantFrom(0, 0x18), es: fc.constantFrom(0, 0x2b), fs: fc.constantFrom(0, 0x2b), task: address, limit: fc.bigInt(0x67n, 0xfffffn), rsp: address,
    });
    const vmm = new Vmm({ apicIds: [0] });
    vmm.prepare();
    const processor = vmm.machine.processors[0]!;
    fc.assert(fc.property(live, ({ cr4, fsBase, gsBase, sysenter, idt, dr7, debugctl, ss, es, fs, task, limit, rsp }) => {
      vmm.gone.clear();
      processor.cr4 = cr4;
      processor.dr7 = dr7;
      processor.idtr = { base: idt, limit: 0xfff };
      Object.assign(processor.selectors, { ss, es, fs });
      for (const [msr, value] of [[0xc0000100, fsBase], [0xc0000101, gsBase], [0x175, sysenter], [0x176, sysenter], [0x1d9, debugctl]] as const) processor.msrs.set(msr, value);
      vmm.machine.memory.writeBytes(GDT + 0x40n, bytes(...taskDescriptor(task, limit).map((word): [bigint, number] => [word, 8])));
      const msrs = new Msrs(processor.msrs);
      expect(vmm.capture(0, rsp)).toBe(OK);
      vmm.hypercall(0, RELEASE_BEGIN, { rdx: 1n });
      for (const msr of [0x174, 0x175, 0x176, 0x1d9, 0xc0000080]) processor.msrs.set(msr, 0xbadn);
      processor.dr7 = 0x400n;
      const { state } = release(vmm, 0);
      expect([state.cr0, state.cr4, state.rsp, state.fsBase, state.gsBase]).toEqual([processor.cr0, cr4, rsp, fsBase, gsBase]);
      expect([state.cs, state.ss, state.ds, state.es, state.fs, state.gs, state.ldtr, state.tr]).toEqual([0x10, ss, 0, es, fs, 0, 0, 0x40]);
      expect([tableRegister(vmm, state.gdtr), tableRegister(vmm, state.idtr)]).toEqual([{ base: GDT, limit: 0x7f }, { base: idt, limit: 0xfff }]);
      const { base } = tableRegister(vmm, state.taskGdtr);
      expect([vmm.machine.memory.read(base + 0x40n, 8), vmm.machine.memory.read(base + 0x48n, 8)]).toEqual(taskDescriptor(task, limit, 0x89n));
      expect([processor.dr7, processor.msrs]).toEqual([dr7, msrs]);
    }), { numRuns: 40, endOnFailure: true });
  });

  test("makes processors that run no kernel leave, halt and take their INIT without starting firmware", () => {
    const vmm = Vmm.captured({ apicIds: [0, 2, 4] });
    expect(vmm.hypercall(1, RELEASE_BEGIN, { rdx: 0b010n })).toBe(OK);
    for (const cpu of [0, 2]) {
      const processor = vmm.machine.processors[cpu]!;
      expect([vmm.gone.get(cpu)?.how, processor.vmxRegion, processor.cr4 & CR4_VMXE, processor.reset, vmm.call.cpuOwner!(cpu)]).toEqual(["halted", null, 0n, "waits", 0]);
    }
    expect(vmm.events().slice(3).map(({ type, cpu, a }) => [type, cpu, a])).toEqual([["RELEASED", 0, 1n], ["RELEASED", 2, 1n]]);
    expect(release(vmm, 1).rax).toBe(0n);
  });

  test("makes a processor leave that waits for its SIPI", () => {
    const vmm = Vmm.captured();
    vmm.exit(1, Reason.INIT);
    expect(vmm.cpu(1).state).toBe(2);
    expect(vmm.hypercall(0, RELEASE_BEGIN, { rdx: 0b01n })).toBe(OK);
    expect([vmm.gone.get(1)?.how, vmm.machine.processors[1]!.reset]).toEqual(["halted", "waits"]);
  });
});
