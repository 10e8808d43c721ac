; VM exit and VM entry on VT-x. RSP at an exit is the address of Vcpu.stackTop, so the Vcpu
; is just below. The commonest exit is handled with only the registers saved that
; compiled code may change; for any other the rest follows.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern handleExit, handleRareExit, deliverNmi, onEntryFailure, entry_refused
global exitStub, first_entry, vmm_entry_window, vmm_entry_window_end, vmm_entry_retry

VM_INSTRUCTION_ERROR equ 0x4400

%define SAVED(register) Vcpu.registers + 8 * register
RAX_	equ 0
RCX_	equ 1
RDX_	equ 2
RBX_	equ 3
RBP_	equ 5
RSI_	equ 6
RDI_	equ 7

; Everything that the C ABI lets a function change, and RBX, last.
%macro LOAD_VOLATILE 0
	mov rax, [rbx + SAVED(RAX_)]
	mov rcx, [rbx + SAVED(RCX_)]
	mov rdx, [rbx + SAVED(RDX_)]
	mov rsi, [rbx + SAVED(RSI_)]
	mov rdi, [rbx + SAVED(RDI_)]
	mov r8, [rbx + SAVED(8)]
	mov r9, [rbx + SAVED(9)]
	mov r10, [rbx + SAVED(10)]
	mov r11, [rbx + SAVED(11)]
	mov rbx, [rbx + SAVED(RBX_)]
%endmacro

section .text
exitStub:				; its address, for the VMCS
	lea rax, [vm_exit]
	ret

first_entry:				; of a captured kernel, its registers loaded
	vmlaunch
	jmp entry_refused

align 16
vm_exit:
	mov [rsp - Vcpu.stackTop + SAVED(RBX_)], rbx
	lea rbx, [rsp - Vcpu.stackTop]	; the Vcpu, from here to the entry
	mov [rbx + SAVED(RAX_)], rax
	mov [rbx + SAVED(RCX_)], rcx
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
	jz rare_exit

enter_guest:				; RBX the Vcpu, RBP and R12 to R15 the guest's
	mov rdx, [rbx + Vcpu.cpu]
	cmp dword [rdx + Cpu.nmiCount], 0
	; An NMI that arrives from here on would wait for the next exit. Its handler
	; finds RIP in this window and sends us back to the retry with RBX the Vcpu,
	; where everything that has been loaded since still is.
vmm_entry_window:
	jne nmi_arrived
	LOAD_VOLATILE
	vmresume
	jmp entry_failed
launch_guest:
	mov rdx, [rbx + Vcpu.cpu]
	cmp dword [rdx + Cpu.nmiCount], 0
	jne nmi_arrived
	LOAD_VOLATILE
	vmlaunch
vmm_entry_window_end:
	jmp entry_failed

rare_exit:
	call save_rest
	mov rdi, rbx
	call handleRareExit
enter:
	mov rbx, rax			; the Vcpu to enter
	mov rbp, [rbx + SAVED(RBP_)]
	mov r12, [rbx + SAVED(12)]
	mov r13, [rbx + SAVED(13)]
	mov r14, [rbx + SAVED(14)]
	mov r15, [rbx + SAVED(15)]
vmm_entry_retry:
	cmp dword [rbx + Vcpu.launched], 0
	jne enter_guest
	jmp launch_guest

nmi_arrived:
	call save_rest			; perhaps another virtual CPU is to be entered
	mov rdi, rbx
	call deliverNmi
	jmp enter

save_rest:
	mov [rbx + SAVED(RBP_)], rbp
	mov [rbx + SAVED(12)], r12
	mov [rbx + SAVED(13)], r13
	mov [rbx + SAVED(14)], r14
	mov [rbx + SAVED(15)], r15
	ret

entry_failed:
	mov eax, VM_INSTRUCTION_ERROR
	vmread rdi, rax
	call onEntryFailure
