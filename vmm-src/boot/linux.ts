/**
 * Linux's 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst): the
 * staged bzImage is entered at its 64-bit entry point where it lies, at its true
 * physical address, with boot parameters, an identity map of 4 GiB and a GDT in
 * the instance's own range.
 */
import { BootRequest, COMMAND_LINE_SIZE, Result } from '../abi.ts';
import { PAGE_SIZE, PTE_LARGE, PTE_PRESENT, PTE_WRITE, PageTable, SIZE_2M } from '../machine/registers.ts';
import { bootInfo } from '../machine/region.ts';
import { E820_RAM, LOW_END, VMM } from '../partition.ts';
import { copyAcpi } from './acpi.ts';
import { RANGE_ACPI, RANGE_ACPI_SIZE, RANGE_BOOT, buildE820 } from './e820.ts';

/** Boot data, from RANGE_BOOT. */
const PARAMS: u64 = RANGE_BOOT;
const COMMAND_LINE: u64 = RANGE_BOOT + 0x1000n;
const GDT: u64 = RANGE_BOOT + 0x2000n;
const PML4: u64 = RANGE_BOOT + 0x3000n;
const PDPT: u64 = RANGE_BOOT + 0x4000n;
const DIRECTORIES: u64 = RANGE_BOOT + 0x5000n;
const DIRECTORY_COUNT: u32 = 4;
/** Boot data ends below this; the kernel lies above. */
const FIRST_KERNEL_BYTE: u64 = 0x200000n;

/** Offsets in the setup header and the boot parameters (boot.rst, zero-page.rst). */
const SETUP_SECTS: u64 = 0x1f1n;
const HEADER_MAGIC: u64 = 0x202n;
const HEADER_VERSION: u64 = 0x206n;
const JUMP_LENGTH: u64 = 0x201n;
const TYPE_OF_LOADER: u64 = 0x210n;
const LOADFLAGS: u64 = 0x211n;
const RAMDISK_IMAGE: u64 = 0x218n;
const RAMDISK_SIZE: u64 = 0x21cn;
const COMMAND_LINE_POINTER: u64 = 0x228n;
const XLOADFLAGS: u64 = 0x236n;
const INIT_SIZE: u64 = 0x260n;
const ACPI_RSDP: u64 = 0x70n;
const RAMDISK_IMAGE_HIGH: u64 = 0xc0n;
const COMMAND_LINE_HIGH: u64 = 0xc8n;
const E820_ENTRIES: u64 = 0x1e8n;
const E820_TABLE: u64 = 0x2d0n;

const HDRS = fourCC('HdrS');
const VERSION_64_BIT: u16 = 0x20c;
const XLF_KERNEL_64: u16 = 1;
const LOADED_HIGH: u8 = 1;
const LOADER_UNDEFINED: u8 = 0xff;
const SECTOR: u64 = 512n;
const ENTRY_64: u64 = 0x200n;
const SETUP_HEADER_END: u64 = 0x202n;
const GDT_CODE64: u64 = 0x00af9a000000ffffn;
const GDT_DATA: u64 = 0x00cf92000000ffffn;

/** Where a checked request starts its kernel. */
export class KernelStart extends Struct { entry: GuestPhysical; params: GuestPhysical; cr3: GuestPhysical; gdt: GuestPhysical }

function inside(address: u64, size: u64, base: u64, end: u64): boolean {
  return address >= base && address <= end && size <= end - address;
}

/** Start of the kernel's protected-mode part. */
function loadAddress(kernel: HostPhysical): HostPhysical {
  const sectors: u64 = u64(load8(kernel + SETUP_SECTS));
  return kernel + (sectors + 1n) * SECTOR;
}

/** Checks kernel and initrd of a request whose range is the caller's; changes nothing. */
export function checkKernel(request: BootRequest): Result {
  const base = request.memoryBase;
  const end: u64 = base + request.memorySize;
  const kernel = request.kernelAddress;
  if (!inside(kernel, request.kernelSize, base + FIRST_KERNEL_BYTE, end)) return Result.TOO_SMALL;
  if (!inside(request.initrdAddress, request.initrdSize, base + FIRST_KERNEL_BYTE, end)) return Result.TOO_SMALL;
  if (request.kernelSize < PAGE_SIZE || load32(kernel + HEADER_MAGIC) !== HDRS) return Result.KERNEL;
  if (load16(kernel + HEADER_VERSION) < VERSION_64_BIT) return Result.KERNEL;
  if ((load16(kernel + XLOADFLAGS) & XLF_KERNEL_64) === 0) return Result.KERNEL;
  const load = loadAddress(kernel);
  if ((load & (SIZE_2M - 1n)) !== 0n || load - kernel >= request.kernelSize) return Result.KERNEL;
  const working: u64 = u64(load32(kernel + INIT_SIZE));
  if (!inside(load, working, base + FIRST_KERNEL_BYTE, end)) return Result.TOO_SMALL;
  if (request.initrdSize !== 0n && request.initrdAddress < load + working && request.initrdAddress + request.initrdSize > kernel) {
    return Result.TOO_SMALL;
  }
  if (request.commandLine[COMMAND_LINE_SIZE - 1] !== 0) return Result.COMMAND_LINE;
  return Result.OK;
}

/** An empty low MiB with the firmware's read-only parts: the BIOS data area and the BIOS ROM with its SMBIOS tables. */
function buildLowMemory(base: HostPhysical): void {
  fillBytes(base, 0, LOW_END);
  copyBytes(base, 0n, PAGE_SIZE);
  copyBytes(base + 0xc0000n, 0xc0000n, 0x40000n);
}

function buildIdentityMap(base: HostPhysical): void {
  fillBytes(base + PML4, 0, 2n * PAGE_SIZE);
  at<PageTable>(base + PML4)[0] = (base + PDPT) | PTE_PRESENT | PTE_WRITE;
  for (let i: u32 = 0; i < DIRECTORY_COUNT; i++) {
    const directory: u64 = base + DIRECTORIES + u64(i) * PAGE_SIZE;
    at<PageTable>(base + PDPT)[i] = directory | PTE_PRESENT | PTE_WRITE;
    const table = at<PageTable>(directory);
    for (let j: u32 = 0; j < 512; j++) table[j] = (u64(i * 512 + j) * SIZE_2M) | PTE_LARGE | PTE_PRESENT | PTE_WRITE;
  }
}

/** End of the machine's RAM. */
function ramTop(): u64 {
  const info = bootInfo();
  let top: u64 = 0n;
  for (let i: u32 = 0; i < 64; i++) {
    if (i >= info.rangeCount) break;
    const range = info.range[i];
    if (range.type === E820_RAM && range.base + range.size > top) top = range.base + range.size;
  }
  return top;
}

/** Writes everything the kernel needs into the range of a checked request. The range is already the new instance's. */
export function prepareKernel(request: BootRequest, out: KernelStart): Result {
  const base = request.memoryBase;
  buildLowMemory(base);
  const rsdp = copyAcpi(base + RANGE_ACPI, RANGE_ACPI_SIZE, request.cpuMask | request.shareMask, ramTop());
  if (rsdp === 0n) return Result.ACPI;

  const params: u64 = base + PARAMS;
  const kernel = request.kernelAddress;
  fillBytes(params, 0, PAGE_SIZE);
  copyBytes(params + SETUP_SECTS, kernel + SETUP_SECTS, SETUP_HEADER_END + u64(load8(kernel + JUMP_LENGTH)) - SETUP_SECTS);
  store8(params + TYPE_OF_LOADER, LOADER_UNDEFINED);
  store8(params + LOADFLAGS, load8(params + LOADFLAGS) | LOADED_HIGH);
  store32(params + RAMDISK_IMAGE, wrapU32(request.initrdAddress));
  store32(params + RAMDISK_IMAGE_HIGH, wrapU32(request.initrdAddress >> 32n));
  store32(params + RAMDISK_SIZE, wrapU32(request.initrdSize));
  store32(params + COMMAND_LINE_POINTER, wrapU32(base + COMMAND_LINE));
  store32(params + COMMAND_LINE_HIGH, wrapU32((base + COMMAND_LINE) >> 32n));
  store64(params + ACPI_RSDP, rsdp);
  copyBytes(base + COMMAND_LINE, addressOf(request.commandLine), u64(COMMAND_LINE_SIZE));
  const entries = buildE820(params + E820_TABLE, base, request.memorySize);
  if (entries === 0) return Result.MEMORY;
  store8(params + E820_ENTRIES, wrapU8(entries));

  buildIdentityMap(base);
  fillBytes(base + GDT, 0, PAGE_SIZE);
  store64(base + GDT + 16n, GDT_CODE64);
  store64(base + GDT + 24n, GDT_DATA);
  out.entry = loadAddress(kernel) + ENTRY_64;
  out.params = params;
  out.cr3 = base + PML4;
  out.gdt = base + GDT;
  return Result.OK;
}
