/**
 * The memory the VMM lives in: one physically contiguous region, the image at its
 * start. The VMM runs at the region's physical address (its page tables map
 * memory at its own address), so its code is position-independent and a
 * HostVirtual of its storage is also the HostPhysical.
 */
import "../../compiler/core/dialect.mjs";
import { BootInfo, BOOT_INFO_OFFSET } from '../abi.ts';

/** Start of the image, where the region starts. In boot/. */
export declare function imageBase(): HostVirtual;
/** End of the code and start of what may be written, from the image's start. In boot/. */
export declare function imageTextEnd(): u64;

export function bootInfo(): BootInfo {
  return at<BootInfo>(imageBase() + BOOT_INFO_OFFSET);
}

/** Physical address of VMM storage. */
export function physical(place: HostVirtual): HostPhysical {
  return u64(place);
}
