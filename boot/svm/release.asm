; The last steps of a release: leaveVmm(struct ReleaseState *). What VMRUN switched
; becomes the kernel's again, with no NMI in between, and it goes on after its
; VMMCALL, in its own module, on tables that map both sides; the module loads the
; kernel's CR3. FS, GS, TR and LDTR have been the kernel's all the time.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern switchPaging
global leaveVmm

CR4_PGE		equ 0x80
CR4_LA57	equ 0x1000
CR4_PCIDE	equ 0x20000
RFLAGS_NONE	equ 2
IA32_EFER	equ 0xc0000080
VM_HSAVE_PA	equ 0xc0010117

section .text
leaveVmm:
	cli
	mov rbx, rdi
	mov edi, [rbx + ReleaseState.cr4]
	test edi, CR4_LA57
	jz .levels
	and edi, ~CR4_PCIDE
	mov esi, [rbx + ReleaseState.transitionCr3]
	call switchPaging
.levels:
	mov rax, [rbx + ReleaseState.cr4]
	mov rdx, rax
	xor rdx, CR4_PGE		; the toggle drops every translation from before the capture (APM Vol. 2, 5.5.2)
	mov cr4, rdx
	mov cr4, rax
	mov rax, [rbx + ReleaseState.cr0]
	mov cr0, rax
	mov rax, [rbx + ReleaseState.transitionCr3]
	mov cr3, rax
	lgdt [rbx + ReleaseState.gdtr]
	movzx eax, word [rbx + ReleaseState.cs]
	push rax
	lea rax, [.own_cs]
	push rax
	o64 retf			; an NMI must find the kernel's own CS to return to
.own_cs:
	mov ds, [rbx + ReleaseState.ds]
	mov es, [rbx + ReleaseState.es]
	mov ss, [rbx + ReleaseState.ss]
	lidt [rbx + ReleaseState.idtr]
	stgi				; from here on an NMI is the kernel's
	mov ecx, VM_HSAVE_PA
	xor eax, eax
	xor edx, edx
	wrmsr
	mov ecx, IA32_EFER
	mov eax, [rbx + ReleaseState.efer]
	mov edx, [rbx + ReleaseState.efer + 4]
	wrmsr
	mov rdi, [rbx + ReleaseState.vcpu]
	movzx eax, word [rbx + ReleaseState.ss]
	push rax
	push qword [rbx + ReleaseState.rsp]
	push RFLAGS_NONE
	movzx eax, word [rbx + ReleaseState.cs]
	push rax
	push qword [rbx + ReleaseState.rip]
	mov rax, [rdi]
	mov rcx, [rdi + 1 * 8]
	mov rdx, [rdi + 2 * 8]
	mov rbx, [rdi + 3 * 8]
	mov rbp, [rdi + 5 * 8]
	mov rsi, [rdi + 6 * 8]
	mov r8, [rdi + 8 * 8]
	mov r9, [rdi + 9 * 8]
	mov r10, [rdi + 10 * 8]
	mov r11, [rdi + 11 * 8]
	mov r12, [rdi + 12 * 8]
	mov r13, [rdi + 13 * 8]
	mov r14, [rdi + 14 * 8]
	mov r15, [rdi + 15 * 8]
	mov rdi, [rdi + 7 * 8]
	iretq
