/** Control registers and flags (SDM Vol. 3A, 2.3 and 2.5). */
export const CR0_PE: u64 = 1n;
export const CR0_TS: u64 = 8n;
export const CR0_ET: u64 = 0x10n;
export const CR0_NE: u64 = 0x20n;
export const CR0_WP: u64 = 0x10000n;
export const CR0_NW: u64 = 0x20000000n;
export const CR0_CD: u64 = 0x40000000n;
export const CR0_PG: u64 = 0x80000000n;

/** Process-context identifier, with CR4.PCIDE. */
export const CR3_PCID: u64 = 0xfffn;

export const CR4_PAE: u64 = 0x20n;
export const CR4_PGE: u64 = 0x80n;
export const CR4_LA57: u64 = 0x1000n;
export const CR4_PCIDE: u64 = 0x20000n;
export const CR4_VMXE: u64 = 0x2000n;
/** Shadow stacks and branch tracking: the VMM runs without, a guest's settings do not bind it. */
export const CR4_CET: u64 = 0x800000n;
export const CR4_PKE: u64 = 0x400000n;
export const CR4_OSXSAVE: u64 = 0x40000n;

export const RFLAGS_CF: u64 = 1n;
export const RFLAGS_RESERVED1: u64 = 2n;
export const RFLAGS_PF: u64 = 4n;
export const RFLAGS_AF: u64 = 0x10n;
export const RFLAGS_ZF: u64 = 0x40n;
export const RFLAGS_SF: u64 = 0x80n;
export const RFLAGS_OF: u64 = 0x800n;
/** All that an arithmetic instruction sets. */
export const RFLAGS_STATUS: u64 = 0x8d5n;
export const RFLAGS_TF: u64 = 0x100n;
export const RFLAGS_IF: u64 = 0x200n;

/** DR6 (SDM Vol. 3B, 18.2.3). */
export const DR6_RESET: u64 = 0xffff0ff0n;
export const DR6_BREAKPOINTS: u64 = 0xfn;
export const DR6_BS: u64 = 0x4000n;

/** DR7 and IA32_DEBUGCTL (SDM Vol. 3B, 18.2 and 18.4). */
export const DR7_RESET: u64 = 0x400n;
export const DR7_GD: u64 = 0x2000n;
export const DEBUGCTL_LBR: u64 = 1n;
export const DEBUGCTL_BTF: u64 = 2n;

/** Exception vectors (SDM Vol. 3A, 7.3.1). */
export const VECTOR_DB: u32 = 1;
export const VECTOR_NMI: u32 = 2;
export const VECTOR_UD: u32 = 6;
export const VECTOR_GP: u32 = 13;
export const VECTOR_MC: u32 = 18;

/** CPUID leaf 1 ECX (SDM Vol. 2A). */
export const CPUID_1_ECX_VMX: u32 = 0x20;
export const CPUID_1_ECX_X2APIC: u32 = 0x200000;
export const CPUID_1_ECX_TSC_DEADLINE: u32 = 0x1000000;
export const CPUID_1_ECX_OSXSAVE: u32 = 0x8000000;
/** CPUID leaf 7 EDX. */
export const CPUID_7_EDX_ARCH_CAPABILITIES: u32 = 0x20000000;
/** CPUID leaf 7 ECX. */
export const CPUID_7_ECX_OSPKE: u32 = 0x10;

/** Page-table entries of IA-32e paging (SDM Vol. 3A, 5.5). */
export type PageTable = FixedArray<u64, 512>;
export const PTE_PRESENT: u64 = 1n;
export const PTE_WRITE: u64 = 2n;
export const PTE_LARGE: u64 = 0x80n;
export const PTE_NX: u64 = 0x8000000000000000n;
export const PTE_ADDRESS: u64 = 0xffffffffff000n;

export const PAGE_SIZE: u64 = 0x1000n;
export const SIZE_2M: u64 = 0x200000n;
export const SIZE_1G: u64 = 0x40000000n;
export const SIZE_512G: u64 = 0x8000000000n;
