; Between 4 and 5 levels of page tables, which a processor changes only with paging
; off (APM Vol. 2, 5.3): down to 32-bit code, and up again. The VMM runs on 4; a
; kernel that is captured on 5 comes from there, and goes back there at its release.
; On VT-x a VM exit does the same.
; SPDX-License-Identifier: MIT
bits 64
default rel

global switchPaging

CR0_PG		equ 0x80000000
CR4_PCIDE	equ 0x20000
KERNEL32_CS	equ 0x08		; of cpu/host.ts
HOST_CS		equ 0x10

section .text
; EDI the new CR4, without PCIDE, ESI the new CR3; the VMM's GDT is loaded, the
; global interrupt flag clear. Code, stack and tables lie below 4 GiB, where both
; tables map them to themselves. Changes RAX, RCX and RDX; 32-bit code would also
; lose the upper halves of the registers that a caller's caller keeps.
switchPaging:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	mov rax, cr4
	and eax, ~CR4_PCIDE		; paging can't go off with it
	mov cr4, rax
	mov rdx, cr0
	lea rcx, [.long]
	push KERNEL32_CS
	lea rax, [.compatible]
	push rax
	o64 retf
bits 32
.compatible:
	mov eax, edx
	and eax, ~CR0_PG
	mov cr0, eax
	mov cr4, edi
	mov cr3, esi
	mov cr0, edx
	push HOST_CS
	push ecx
	retf
bits 64
.long:
	mov esp, esp
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret
