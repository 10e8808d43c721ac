/** Local APIC (SDM Vol. 3A, chapter 12) and IOAPIC (82093AA data sheet). */
export const APIC_DEFAULT_BASE: HostPhysical = 0xfee00000n;
export const APIC_ID: u32 = 0x20;
export const APIC_VERSION: u32 = 0x30;
export const APIC_TPR: u32 = 0x80;
export const APIC_APR: u32 = 0x90;
export const APIC_PPR: u32 = 0xa0;
export const APIC_EOI: u32 = 0xb0;
export const APIC_RRD: u32 = 0xc0;
export const APIC_LDR: u32 = 0xd0;
export const APIC_DFR: u32 = 0xe0;
export const APIC_SVR: u32 = 0xf0;
export const APIC_ISR: u32 = 0x100;
export const APIC_TMR: u32 = 0x180;
export const APIC_IRR: u32 = 0x200;
export const APIC_ESR: u32 = 0x280;
export const APIC_LVT_CMCI: u32 = 0x2f0;
export const APIC_ICR_LOW: u32 = 0x300;
export const APIC_ICR_HIGH: u32 = 0x310;
export const APIC_LVT_TIMER: u32 = 0x320;
export const APIC_LVT_THERMAL: u32 = 0x330;
export const APIC_LVT_PERFORMANCE: u32 = 0x340;
export const APIC_LVT_LINT0: u32 = 0x350;
export const APIC_LVT_LINT1: u32 = 0x360;
export const APIC_LVT_ERROR: u32 = 0x370;
export const APIC_INITIAL_COUNT: u32 = 0x380;
export const APIC_CURRENT_COUNT: u32 = 0x390;
export const APIC_DIVIDE: u32 = 0x3e0;
/** x2APIC mode only. */
export const APIC_SELF_IPI: u32 = 0x3f0;
export const DIVIDE_BY_1: u32 = 0xb;

export const SVR_RESET: u32 = 0xff;
export const SVR_ENABLE: u32 = 0x100;
export const SVR_SUPPRESS_EOI_BROADCAST: u32 = 0x1000;
export const DFR_RESET: u32 = 0xffffffff;
/** Version register (12.4.8): number of the last LVT entry in bits 16 to 23. */
export const VERSION_MAX_LVT_SHIFT: u32 = 16;
export const VERSION_EOI_SUPPRESSION: u32 = 0x1000000;
/** LVT entries (12.5.1). */
export const LVT_VECTOR: u32 = 0xff;
export const LVT_DELIVERY_MODE: u32 = 0x700;
export const LVT_DELIVERY_STATUS: u32 = 0x1000;
export const LVT_LOW_ACTIVE: u32 = 0x2000;
export const LVT_REMOTE_IRR: u32 = 0x4000;
export const LVT_LEVEL: u32 = 0x8000;
export const LVT_MASKED: u32 = 0x10000;
export const LVT_PERIODIC: u32 = 0x20000;
export const LVT_TSC_DEADLINE: u32 = 0x40000;
export const LVT_TIMER_MODE: u32 = 0x60000;
/** Error status register (12.5.3). */
export const ESR_SEND_ILLEGAL_VECTOR: u32 = 0x20;
export const ESR_RECEIVE_ILLEGAL_VECTOR: u32 = 0x40;
export const ESR_ILLEGAL_REGISTER: u32 = 0x80;
/** Vectors below are the processor's exceptions; an APIC takes none of them (12.5.2). */
export const FIRST_VALID_VECTOR: u32 = 16;

/** ICR low word. */
export const ICR_VECTOR: u32 = 0xff;
export const ICR_MODE: u32 = 0x700;
export const ICR_MODE_FIXED: u32 = 0;
export const ICR_MODE_LOWEST: u32 = 0x100;
export const ICR_MODE_NMI: u32 = 0x400;
export const ICR_MODE_INIT: u32 = 0x500;
export const ICR_MODE_STARTUP: u32 = 0x600;
export const ICR_LOGICAL: u32 = 0x800;
export const ICR_BUSY: u32 = 0x1000;
export const ICR_ASSERT: u32 = 0x4000;
export const ICR_LEVEL: u32 = 0x8000;
export const ICR_SHORTHAND: u32 = 0xc0000;
export const ICR_SHORTHAND_SELF: u32 = 0x40000;
export const ICR_SHORTHAND_ALL: u32 = 0x80000;
export const ICR_SHORTHAND_OTHERS: u32 = 0xc0000;

export const IOAPIC_SELECT: u32 = 0;
export const IOAPIC_WINDOW: u32 = 0x10;
export const IOAPIC_EOI: u32 = 0x40;
export const IOAPIC_ID: u32 = 0;
export const IOAPIC_VERSION: u32 = 1;
export const IOAPIC_TABLE: u32 = 0x10;
export const IOAPIC_MASKED: u64 = 0x10000n;
