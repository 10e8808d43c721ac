; Where the loader enters the VMM on each processor (linux/abi.h, "Late launch"):
;   EDI processor number or US_PREPARE | step, RSI RIP and RDX RSP to go on with,
;   RCX the kernel's CR3; interrupts off, the launch tables loaded.
; SPDX-License-Identifier: MIT
bits 64
default rel

extern enter, enterFailed, stacks, first_entry
global vmmEnter, entry_refused

STACK_SHIFT	equ 12		; log2 of cpu/host.ts STACK_SIZE
MAX_CPUS	equ 32
E_CPU		equ 8

section .text
vmmEnter:
	endbr64
	mov eax, edi
	test eax, eax
	jns number
	xor eax, eax			; preparing: any stack will do
number:
	cmp eax, MAX_CPUS
	jae refuse
	inc eax
	shl rax, STACK_SHIFT
	lea r8, [stacks]
	add rax, r8
	mov rsp, rax
	push rdi
	push rsi
	push rdx
	sub rsp, 8			; the C ABI wants RSP 16-byte aligned at a call
	call enter
	add rsp, 8
	pop rdx
	pop rsi
	pop rdi
	test eax, eax
	jnz back			; refused, or preparation goes on
	test edi, edi
	js back			; prepared
	jmp first_entry			; the kernel goes on as a guest, RAX = 0, callee-saved registers its own
entry_refused:				; or not, and nothing has changed since
	push rsi
	push rdx
	call enterFailed
	pop rdx
	pop rsi
back:
	mov rsp, rdx
	jmp rsi
refuse:
	mov eax, E_CPU
	jmp back
