; VM exit and VM entry on AMD-V. VMRUN is a call that returns with every register
; the guest's but RAX, RSP and what the VMCB holds: RSP is the address of
; Vcpu.stackTop, so the Vcpu is just below. The commonest exit is handled with
; only the registers saved that compiled code may change; for any other the rest
; follows. The global interrupt flag is clear from the exit to the entry.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern handleExit, handleRareExit, switchPaging, cpus, hostState
global first_entry

VMCB_RAX	equ 0x5f8
CR4_LA57	equ 0x1000
CR4_PCIDE	equ 0x20000
CR4_CET		equ 0x800000

%define SAVED(register) Vcpu.registers + 8 * register
RAX_	equ 0
RCX_	equ 1
RDX_	equ 2
RBX_	equ 3
RBP_	equ 5
RSI_	equ 6
RDI_	equ 7

section .text
; Of a captured kernel: EDI the processor's number, its registers loaded but for
; those that a call may change. From here on the tables are the VMM's own.
first_entry:
	clgi
	sti				; so VMRUN is to find it; while the global flag is clear it lets nothing in
	mov rax, cr4
	and rax, ~CR4_CET		; a guest's settings do not bind the VMM
	mov cr4, rax
	lgdt [hostState + HostState.gdtr]
	lidt [hostState + HostState.idtr]
	test eax, CR4_LA57
	jnz .five_levels
	mov rax, [hostState + HostState.cr3]
	mov cr3, rax
.own_tables:
	imul edi, edi, Cpu_size
	lea rax, [cpus]
	mov rdx, [rax + rdi + Cpu.vcpu]
	lea rsp, [rdx + Vcpu.stackTop]
	mov rax, [rdx + Vcpu.control]
	jmp run
.five_levels:
	push rdi
	mov edi, eax
	and edi, ~(CR4_LA57 | CR4_PCIDE)
	mov esi, [hostState + HostState.cr3]
	call switchPaging
	pop rdi
	jmp .own_tables

enter_guest:				; RBX the Vcpu, RBP and R12 to R15 the guest's
	lea rsp, [rbx + Vcpu.stackTop]
	mov rax, [rbx + Vcpu.control]
	mov rcx, [rbx + SAVED(RAX_)]
	mov [rax + VMCB_RAX], rcx
	mov rcx, [rbx + SAVED(RCX_)]
	mov rdx, [rbx + SAVED(RDX_)]
	mov rsi, [rbx + SAVED(RSI_)]
	mov rdi, [rbx + SAVED(RDI_)]
	mov r8, [rbx + SAVED(8)]
	mov r9, [rbx + SAVED(9)]
	mov r10, [rbx + SAVED(10)]
	mov r11, [rbx + SAVED(11)]
	mov rbx, [rbx + SAVED(RBX_)]
run:
	vmrun				; the VMCB is at RAX
	mov [rsp - Vcpu.stackTop + SAVED(RBX_)], rbx
	lea rbx, [rsp - Vcpu.stackTop]	; the Vcpu, from here to the entry
	mov [rbx + SAVED(RCX_)], rcx
	mov rcx, [rax + VMCB_RAX]
	mov [rbx + SAVED(RAX_)], rcx
	mov [rbx + SAVED(RDX_)], rdx
	mov [rbx + SAVED(RSI_)], rsi
	mov [rbx + SAVED(RDI_)], rdi
	mov [rbx + SAVED(8)], r8
	mov [rbx + SAVED(9)], r9
	mov [rbx + SAVED(10)], r10
	mov [rbx + SAVED(11)], r11
	mov rsp, [rsp]
	mov rdi, rbx
	call handleExit
	test al, al
	jnz enter_guest

	mov [rbx + SAVED(RBP_)], rbp
	mov [rbx + SAVED(12)], r12
	mov [rbx + SAVED(13)], r13
	mov [rbx + SAVED(14)], r14
	mov [rbx + SAVED(15)], r15
	mov rdi, rbx
	call handleRareExit
	mov rbx, rax			; the Vcpu to enter
	mov rbp, [rbx + SAVED(RBP_)]
	mov r12, [rbx + SAVED(12)]
	mov r13, [rbx + SAVED(13)]
	mov r14, [rbx + SAVED(14)]
	mov r15, [rbx + SAVED(15)]
	jmp enter_guest
