; The last steps of a release, after VMXOFF: leaveVmm(struct ReleaseState *).
; Everything that the kernel believes of this processor becomes true again, and
; then it goes on after its VMCALL, in its own module, on tables that map both
; sides; the module loads the kernel's CR3.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern releaseIdtr
global leaveVmm

CR4_PGE		equ 0x80
RFLAGS_NONE	equ 2
IA32_FS_BASE	equ 0xc0000100
IA32_GS_BASE	equ 0xc0000101

section .text
leaveVmm:
	mov rbx, rdi
	lidt [releaseIdtr]		; NMIs: counted by way of RBX, whatever GDT and TSS are loaded
	mov rax, [rbx + ReleaseState.cr4]
	mov rdx, rax
	xor rdx, CR4_PGE		; the toggle drops every translation from before the capture (SDM Vol. 3A, 5.10.4.1)
	mov cr4, rdx
	mov cr4, rax
	mov rax, [rbx + ReleaseState.cr0]
	mov cr0, rax
	mov rax, [rbx + ReleaseState.transitionCr3]
	mov cr3, rax
	lgdt [rbx + ReleaseState.taskGdtr]
	ltr [rbx + ReleaseState.tr]
	lgdt [rbx + ReleaseState.gdtr]
	lldt [rbx + ReleaseState.ldtr]
	movzx eax, word [rbx + ReleaseState.cs]
	push rax
	lea rax, [.own_cs]
	push rax
	o64 retf			; an NMI must find the kernel's own CS to return to
.own_cs:
	mov ds, [rbx + ReleaseState.ds]
	mov es, [rbx + ReleaseState.es]
	mov ss, [rbx + ReleaseState.ss]
	mov fs, [rbx + ReleaseState.fs]
	mov gs, [rbx + ReleaseState.gs]
	mov ecx, IA32_FS_BASE
	mov eax, [rbx + ReleaseState.fsBase]
	mov edx, [rbx + ReleaseState.fsBase + 4]
	wrmsr
	mov ecx, IA32_GS_BASE
	mov eax, [rbx + ReleaseState.gsBase]
	mov edx, [rbx + ReleaseState.gsBase + 4]
	wrmsr
	lidt [rbx + ReleaseState.idtr]	; from here on an NMI is the kernel's
	mov rdi, [rbx + ReleaseState.vcpu]
	mov rax, [rbx + ReleaseState.cpu]
	mov eax, [rax + Cpu.nmiCount]
	add [rdi + 2 * 8], rax		; RDX: what it must send itself
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
