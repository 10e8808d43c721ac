/** Model-specific registers, named as in SDM Vol. 4, chapter 2. */
export const IA32_APIC_BASE: u32 = 0x1b;
export const IA32_FEATURE_CONTROL: u32 = 0x3a;
export const IA32_SPEC_CTRL: u32 = 0x48;
export const IA32_BIOS_UPDT_TRIG: u32 = 0x79;
export const IA32_XAPIC_DISABLE_STATUS: u32 = 0xbd;
export const IA32_MTRRCAP: u32 = 0xfe;
export const IA32_ARCH_CAPABILITIES: u32 = 0x10a;
export const IA32_SYSENTER_CS: u32 = 0x174;
export const IA32_SYSENTER_ESP: u32 = 0x175;
export const IA32_SYSENTER_EIP: u32 = 0x176;
export const IA32_DEBUGCTL: u32 = 0x1d9;
export const IA32_MTRR_PHYSBASE0: u32 = 0x200;
export const IA32_MTRR_PHYSMASK0: u32 = 0x201;
export const IA32_MTRR_FIX64K_00000: u32 = 0x250;
export const IA32_MTRR_FIX16K_80000: u32 = 0x258;
export const IA32_MTRR_FIX4K_C0000: u32 = 0x268;
export const IA32_PAT: u32 = 0x277;
export const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
export const IA32_VMX_BASIC: u32 = 0x480;
export const IA32_VMX_MISC: u32 = 0x485;
export const IA32_VMX_CR4_FIXED1: u32 = 0x489;
export const IA32_VMX_PROCBASED_CTLS2: u32 = 0x48b;
export const IA32_VMX_EPT_VPID_CAP: u32 = 0x48c;
export const IA32_VMX_TRUE_PINBASED_CTLS: u32 = 0x48d;
export const IA32_VMX_TRUE_PROCBASED_CTLS: u32 = 0x48e;
export const IA32_VMX_TRUE_EXIT_CTLS: u32 = 0x48f;
export const IA32_VMX_TRUE_ENTRY_CTLS: u32 = 0x490;
export const IA32_U_CET: u32 = 0x6a0;
export const IA32_INTERRUPT_SSP_TABLE: u32 = 0x6a8;
export const IA32_TSC_DEADLINE: u32 = 0x6e0;
export const X2APIC_MSR_BASE: u32 = 0x800;
export const IA32_EFER: u32 = 0xc0000080;
export const IA32_STAR: u32 = 0xc0000081;
export const IA32_LSTAR: u32 = 0xc0000082;
export const IA32_CSTAR: u32 = 0xc0000083;
export const IA32_FMASK: u32 = 0xc0000084;
export const IA32_KERNEL_GS_BASE: u32 = 0xc0000102;
export const IA32_TSC_AUX: u32 = 0xc0000103;
export const IA32_PRED_CMD: u32 = 0x49;
export const IA32_FLUSH_CMD: u32 = 0x10b;
export const IA32_XFD: u32 = 0x1c4;
export const IA32_XFD_ERR: u32 = 0x1c5;
export const IA32_XSS: u32 = 0xda0;
/** AMD's (APM Vol. 2, 15.30). */
export const VM_CR: u32 = 0xc0010114;
export const VM_HSAVE_PA: u32 = 0xc0010117;
export const IA32_FS_BASE: u32 = 0xc0000100;
export const IA32_GS_BASE: u32 = 0xc0000101;

/** IA32_APIC_BASE (SDM Vol. 3A, 12.4.4). */
export const APIC_BASE_BSP: u64 = 0x100n;
export const APIC_BASE_X2APIC: u64 = 0x400n;
export const APIC_BASE_ENABLE: u64 = 0x800n;

/** IA32_ARCH_CAPABILITIES: the processor has IA32_XAPIC_DISABLE_STATUS, whose bit 0 says that x2APIC mode is locked. */
export const ARCH_CAPABILITIES_XAPIC_DISABLE_STATUS: u64 = 0x200000n;
export const LEGACY_XAPIC_DISABLED: u64 = 1n;

/** IA32_EFER (SDM Vol. 3A, 2.2.1; APM Vol. 2, 3.1.7). */
export const EFER_SCE: u64 = 1n;
export const EFER_LME: u64 = 0x100n;
export const EFER_LMA: u64 = 0x400n;
export const EFER_NXE: u64 = 0x800n;
export const EFER_SVME: u64 = 0x1000n;
export const EFER_FFXSR: u64 = 0x4000n;
export const EFER_TCE: u64 = 0x8000n;
export const EFER_AUTOMATIC_IBRS: u64 = 0x200000n;

/** VM_CR (APM Vol. 2, 15.30.1). */
export const VM_CR_SVMDIS: u64 = 0x10n;

/** IA32_PAT after RESET (SDM Vol. 3A, 13.12.4). */
export const PAT_RESET: u64 = 0x0007040600070406n;

/** IA32_FEATURE_CONTROL (SDM Vol. 3C, 25.7). */
export const FEATURE_CONTROL_LOCKED: u64 = 1n;
export const FEATURE_CONTROL_VMX_OUTSIDE_SMX: u64 = 4n;
