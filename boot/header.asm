; The image's first page: the header that the loader reads (struct us_image_header,
; linux/abi.h). The rest of the page is the loader's, for struct us_boot_info.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern vmm_file_size, vmm_memory_size, vmm_text_end, vmmEnter
global imageBase, imageTextEnd, vmm_launch_tables

ABI_VERSION equ 1

section .header progbits alloc noexec
vmm_image:
	dq 0x5944545352444e55		; "UNDRSTDY"
	dd ABI_VERSION
	dd 0				; CRC-32, put in by linker/build.ts
	dq vmm_file_size
	dq vmm_memory_size
	dq vmmEnter			; linked at 0, so a symbol is its offset
	dq vmm_launch_tables
	dq Annex_size

section .bss
alignb 8192
vmm_launch_tables:
	resb 3 * 4096

section .text
imageBase:
	lea rax, [vmm_image]
	ret

imageTextEnd:
	mov eax, vmm_text_end
	ret
