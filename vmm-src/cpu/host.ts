/**
 * The processor state the VMM itself runs with: page tables, GDT, TSS, IDT and
 * stacks of its own, so that nothing of a guest's kernel is trusted after entry.
 *
 * Physical memory is mapped at its own address, writable and not executable; of
 * the VMM's region the code is executable and not writable. It is on 4 levels,
 * whatever a guest is on. The transition table adds the upper half of an instance's
 * kernel: the last instructions of a release run from a page that both sides map.
 */
import { MAX_CPUS } from '../abi.ts';
import { imageBase, imageTextEnd } from '../machine/region.ts';
import { TableRegister } from '../machine/intrinsics.ts';
import {
  CR4_LA57, PAGE_SIZE, PTE_ADDRESS, PTE_LARGE, PTE_NX, PTE_PRESENT, PTE_WRITE, PageTable, SIZE_1G, SIZE_2M, VECTOR_NMI,
} from '../machine/registers.ts';
import { Cpu, cpus } from './cpu.ts';
import { MACHINE_CHECK_STACK, NMI_STACK } from '#processor/interrupts.ts';

/**
 * PML4, or for a kernel on 5-level paging PML5, with an instance's upper half. Its address must have bit 12 clear: with
 * page-table isolation Linux's NMI entry takes that bit of CR3 for "user tables".
 * @asm
 */
export const transitionTables: PageTable = zeroed(8192);
const pml4: PageTable = zeroed(4096);
const pdpt: PageTable = zeroed(4096);
const regionDirectory: PageTable = zeroed(4096);
const regionTables: FixedArray<PageTable, 4> = zeroed(4096);

/**
 * Selectors of the VMM's GDT, the same as Linux's own: during a release there is
 * a moment with the kernel's GDT and the VMM's IDT.
 */
export const HOST_CS: u32 = 0x10;
export const HOST_DS: u32 = 0x18;
export const HOST_TR: u32 = 0x20;
const DESCRIPTOR_CODE32: u64 = 0x00cf9b000000ffffn;
const DESCRIPTOR_CODE64: u64 = 0x00af9b000000ffffn;
const DESCRIPTOR_DATA: u64 = 0x00cf93000000ffffn;
const DESCRIPTOR_TSS_PRESENT: u64 = 0x890000000000n;
const TSS_LIMIT: u64 = 0x67n;

/** 64-bit TSS (SDM Vol. 3A, 9.7): only the interrupt stacks matter. */
class Tss extends Packed {
  reserved0: u32;
  rsp: FixedArray<u64, 3>;
  reserved1: u64;
  ist: FixedArray<u64, 7>;
  reserved2: u64;
  reserved3: u16;
  ioMapBase: u16;
}
assertLayout<Tss>(104, { ist: 36, ioMapBase: 102 });

const gdts: FixedArray<FixedArray<u64, 6>, 32> = zeroed(64);
const tss: FixedArray<Tss, 32> = zeroed(64);

/** The interrupt stack of NMIs and machine checks: its top holds the Cpu it belongs to, for the assembly stubs. */
class InterruptStack extends Struct { words: FixedArray<u64, 254>; cpu: Cpu | null; align: u64 }
assertLayout<InterruptStack>(2048);
const INTERRUPT_STACK_CPU: u64 = 2032n;
const interruptStacks: FixedArray<FixedArray<InterruptStack, 2>, 32> = zeroed(64);

/** 16-byte gates (SDM Vol. 3A, figure 7-8). */
export class Gate extends Struct { low: u64; high: u64 }
const idt: FixedArray<Gate, 256> = zeroed(64);
const GATE_INTERRUPT: u64 = 0x8e0000000000n;
const VECTOR_MACHINE_CHECK: u32 = 18;
const FIRST_INTERRUPT: u32 = 32;

const STACK_SIZE: u64 = 4096n;
/** @asm */
export const stacks: FixedArray<FixedArray<u8, 4096>, 32> = zeroed(4096);

/** Entry stubs in boot/interrupts.asm and nmi.asm. */
declare function exceptionStubs(): HostVirtual;
declare function nmiStub(): HostVirtual;
declare function interruptStub(): HostVirtual;
const EXCEPTION_STUB_SIZE: u64 = 16n;

export function hostCr3(): u64 {
  return addressOf(pml4);
}

export function hostGdt(cpu: u32): HostVirtual {
  return addressOf(gdts[cpu]);
}

export function hostTss(cpu: u32): HostVirtual {
  return addressOf(tss[cpu]);
}

export function hostIdt(): HostVirtual {
  return addressOf(idt);
}

/** The top of a processor's VMM stack, 16-byte aligned. */
export function stackTop(cpu: u32): HostVirtual {
  return addressOf(stacks[cpu]) + STACK_SIZE;
}

/**
 * What boot/svm/exit.asm loads before the first entry; on VT-x the VMCS says it.
 * @asm
 */
export class HostState extends Struct {
  gdtr: FixedArray<u8, 16>;
  idtr: FixedArray<u8, 16>;
  cr3: u64;
}
assertLayout<HostState>(40, { idtr: 16, cr3: 32 });
/** @asm */
export const hostState: HostState = zeroed(16);
const GDT_LIMIT: u16 = 47;
const IDT_LIMIT: u16 = 4095;

/** Fills `hostState`. One GDT serves every processor where no interrupt has a stack of its own. */
export function fillHostState(): void {
  store16(addressOf(hostState.gdtr), GDT_LIMIT);
  store64(addressOf(hostState.gdtr) + 2n, hostGdt(0));
  store16(addressOf(hostState.idtr), IDT_LIMIT);
  store64(addressOf(hostState.idtr) + 2n, hostIdt());
  hostState.cr3 = hostCr3();
}

/** Page tables of the VMM. */
export function buildHostTables(): void {
  for (let i: u32 = 0; i < 512; i++) pdpt[i] = (u64(i) * SIZE_1G) | PTE_LARGE | PTE_WRITE | PTE_PRESENT | PTE_NX;
  const base: u64 = imageBase();
  const gigabyte: u64 = base & ~(SIZE_1G - 1n);
  for (let i: u32 = 0; i < 512; i++) {
    regionDirectory[i] = (gigabyte + u64(i) * SIZE_2M) | PTE_LARGE | PTE_WRITE | PTE_PRESENT | PTE_NX;
  }
  pdpt[wrapU32(base >> 30n) & 511] = addressOf(regionDirectory) | PTE_WRITE | PTE_PRESENT;
  pml4[0] = addressOf(pdpt) | PTE_WRITE | PTE_PRESENT;
}

/** Splits the region's first 2 MiB so that its code, and nothing else, is executable, and not writable. */
export function protectImage(): void {
  const base: u64 = imageBase();
  const textEnd: u64 = base + imageTextEnd();
  const table = regionTables[0];
  for (let i: u32 = 0; i < 512; i++) {
    const page: u64 = (base & ~(SIZE_2M - 1n)) + u64(i) * PAGE_SIZE;
    const isText = page >= base + PAGE_SIZE && page < textEnd;
    table[i] = page | PTE_PRESENT | (isText ? 0n : PTE_WRITE | PTE_NX);
  }
  regionDirectory[wrapU32(base >> 21n) & 511] = addressOf(table) | PTE_WRITE | PTE_PRESENT;
}

/** The tables a release ends on: the VMM's lower half, the upper half of the kernel at `guestCr3`, of as many levels as that has. */
export function buildTransition(guestCr3: HostPhysical, guestCr4: u64): void {
  const guest = at<PageTable>(guestCr3 & PTE_ADDRESS);
  transitionTables[0] = (guestCr4 & CR4_LA57) !== 0n ? addressOf(pml4) | PTE_WRITE | PTE_PRESENT : pml4[0];
  for (let i: u32 = 256; i < 512; i++) transitionTables[i] = guest[i];
}

/** An interrupt gate; `stack` is one of the TSS's interrupt stacks, or 0. */
export function setGate(gate: Gate, stub: HostVirtual, stack: u64): void {
  gate.low = (stub & 0xffffn) | (u64(HOST_CS) << 16n) | (stack << 32n) | GATE_INTERRUPT | (((stub >> 16n) & 0xffffn) << 48n);
  gate.high = stub >> 32n;
}

/** One slice of the IDT: 32 vectors, `slice` below 8. */
export function buildIdtSlice(slice: u32): void {
  for (let i: u32 = 0; i < 32; i++) {
    const vector = slice * 32 + i;
    const gate = idt[vector & 255];
    if (vector === VECTOR_NMI) setGate(gate, nmiStub(), NMI_STACK);
    else if (vector < FIRST_INTERRUPT) {
      setGate(gate, exceptionStubs() + u64(vector) * EXCEPTION_STUB_SIZE, vector === VECTOR_MACHINE_CHECK ? MACHINE_CHECK_STACK : 0n);
    } else setGate(gate, interruptStub(), 0n);
  }
}

/** GDT, TSS and interrupt stacks of one processor. */
export function buildProcessor(cpu: u32): void {
  assert(cpu < MAX_CPUS);
  const state = tss[cpu];
  state.ioMapBase = 104;
  for (let i: u32 = 0; i < 2; i++) {
    const stack = interruptStacks[cpu][i];
    stack.cpu = cpus[cpu];
    state.ist[i] = addressOf(stack) + INTERRUPT_STACK_CPU;
  }
  const gdt = gdts[cpu];
  const base: u64 = hostTss(cpu);
  gdt[1] = DESCRIPTOR_CODE32;
  gdt[2] = DESCRIPTOR_CODE64;
  gdt[3] = DESCRIPTOR_DATA;
  gdt[4] = TSS_LIMIT | ((base & 0xffffffn) << 16n) | DESCRIPTOR_TSS_PRESENT | (((base >> 24n) & 0xffn) << 56n);
  gdt[5] = base >> 32n;
}
