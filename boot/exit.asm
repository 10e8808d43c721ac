; VM exit and VM entry. The exit's RSP is the end of Vcpu.registers, so the pushes
; store the guest's registers where handleExit finds them; the entry pops them.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern handleExit, deliverNmi, onEntryFailure
global exitStub, vmm_entry_window, vmm_entry_window_end, vmm_entry_retry

VM_INSTRUCTION_ERROR equ 0x4400

section .text
exitStub:				; its address, for the VMCS
	lea rax, [vm_exit]
	ret

align 16
vm_exit:
	push r15
	push r14
	push r13
	push r12
	push r11
	push r10
	push r9
	push r8
	push rdi
	push rsi
	push rbp
	push rax			; RSP's place, unused
	push rbx
	push rdx
	push rcx
	push rax
	mov rdi, rsp			; the Vcpu
	mov dword [rdi + Vcpu.launched], 1
	mov rsp, [rdi + Vcpu.stackTop]
	call handleExit			; RAX: the Vcpu to enter
enter_guest:
	mov rdx, [rax + Vcpu.cpu]
	mov rsp, rax
	cmp dword [rdx + Cpu.nmiCount], 0
	; An NMI that arrives from here on would wait for the next exit. Its handler
	; finds RIP in this window and sends us back to enter_guest: until the entry
	; itself, everything that was popped is still in the Vcpu.
vmm_entry_window:
	jne nmi_arrived
	cmp dword [rsp + Vcpu.launched], 0
	pop rax
	pop rcx
	pop rdx
	pop rbx
	pop rbp				; RSP's place
	pop rbp
	pop rsi
	pop rdi
	pop r8
	pop r9
	pop r10
	pop r11
	pop r12
	pop r13
	pop r14
	pop r15
	je .launch
	vmresume
	jmp entry_failed
.launch:
	vmlaunch
vmm_entry_window_end:
	jmp entry_failed

vmm_entry_retry:			; the NMI handler has put the Vcpu into RSP
	mov rax, rsp
	jmp enter_guest

nmi_arrived:
	mov rsp, [rax + Vcpu.stackTop]
	mov rbx, rax
	mov rdi, rax
	call deliverNmi
	mov rax, rbx
	jmp enter_guest

entry_failed:				; RSP is the end of Vcpu.registers
	mov rsp, [rsp]
	mov eax, VM_INSTRUCTION_ERROR
	vmread rdi, rax
	call onEntryFailure
